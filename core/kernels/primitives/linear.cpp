// q_gemm_dequant and swiglu_mlp_fused: products of weights with activations that are quantised
// once.
#include <algorithm>
#include <memory>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/packed_layout.h"
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// One product: a matrix, its bias and where its result goes.
struct Job {
  cpu::MatrixRef matrix;
  const float* bias = nullptr;
  cpu::ActivationView x;
  float* out = nullptr;  // [tokens, matrix.rows]
};

// Memory that each worker reuses from call to call; grows to the largest layer and stays.
struct Scratch {
  cpu::MatmulScratch matmul;
  std::vector<float> tile;
};

Scratch& worker_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

// The views that the jobs of one input need: its int8 form is made once for all that want the same
// tiles, which is all of them unless some are packed and some are not.
class Activations {
 public:
  Activations(const float* x, int64_t tokens, int64_t k, ThreadPool& threads)
      : threads_(threads),
        plain_{.x = x, .stride = k, .columns = tokens, .k = k, .quantized = nullptr} {}

  cpu::ActivationView view_for(const cpu::MatrixRef& matrix) {
    if (matrix.packed && cpu::is_float(matrix.format)) return tiled(matrix);
    if (!cpu::needs_quantized_activations(matrix)) return plain_;
    thread_local cpu::QuantizedActivations forms[2];
    const int64_t tile = cpu::activation_tile(matrix, plain_.columns);
    int i = 0;
    while (i < made_ && forms[i].tile != tile) ++i;
    if (i == made_) {
      cpu::quantize_activations(plain_.x, plain_.stride, plain_.columns, plain_.k, tile, forms[i],
                                threads_);
      ++made_;
    }
    cpu::ActivationView view = plain_;
    view.quantized = &forms[i];
    return view;
  }

 private:
  // All packed float formats want the same tiles; one column is a tile as it lies.
  cpu::ActivationView tiled(const cpu::MatrixRef& matrix) {
    thread_local std::vector<float> tiles;
    cpu::ActivationView view = plain_;
    view.tiles = plain_.x;
    if (plain_.columns == 1) return view;
    if (!tiled_) {
      cpu::tile_activations(plain_.x, plain_.stride, plain_.columns, plain_.k,
                            cpu::activation_tile(matrix, plain_.columns), tiles, threads_);
      tiled_ = true;
    }
    view.tiles = tiles.data();
    return view;
  }

  ThreadPool& threads_;
  cpu::ActivationView plain_;
  bool tiled_ = false;
  int made_ = 0;
};

// Rows [begin, end) of one product with its bias; `out` is where row `begin` of the first token
// goes.
void run_tile(const Job& job, int64_t begin, int64_t end, float* out, int64_t stride) {
  cpu::matmul_rows(job.matrix, begin, end, job.x, out, stride, worker_scratch().matmul);
  if (job.bias == nullptr) return;
  for (int64_t t = 0; t < job.x.columns; ++t) {
    cpu::add(out + t * stride, job.bias + begin, end - begin, out + t * stride);
  }
}

int64_t tiles_of(int64_t rows) { return (rows + cpu::kRowTile - 1) / cpu::kRowTile; }

// The row tiles of several matrices as one loop, so that threads do not wait between them.
void run_jobs(const std::vector<Job>& jobs, ThreadPool& threads) {
  int64_t total = 0;
  for (const Job& job : jobs) total += tiles_of(job.matrix.rows);
  threads.parallel_ranges(total, 1, [&](int64_t begin, int64_t end, int) {
    for (const Job& job : jobs) {
      const int64_t tiles = tiles_of(job.matrix.rows);
      const int64_t first = std::max<int64_t>(begin, 0), last = std::min(end, tiles);
      if (first < last) {
        const int64_t row = first * cpu::kRowTile;
        run_tile(job, row, std::min(last * cpu::kRowTile, job.matrix.rows), job.out + row,
                 job.matrix.rows);
      }
      begin -= tiles;
      end -= tiles;
      if (end <= 0) break;
    }
  });
}

// Silu(gate) * up a tile at a time: the up tile lives in a scratch that stays in the cache.
void run_swiglu(const Job& gate, const Job& up, ThreadPool& threads) {
  const int64_t rows = gate.matrix.rows;
  threads.parallel_ranges(tiles_of(rows), 1, [&](int64_t first, int64_t last, int) {
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t begin = tile * cpu::kRowTile, end = std::min(begin + cpu::kRowTile, rows);
      run_tile(gate, begin, end, gate.out + begin, rows);
      std::vector<float>& tile_of_up = worker_scratch().tile;
      tile_of_up.resize(static_cast<size_t>(up.x.columns * cpu::kRowTile));
      run_tile(up, begin, end, tile_of_up.data(), cpu::kRowTile);
      for (int64_t t = 0; t < up.x.columns; ++t) {
        cpu::swiglu(gate.out + t * rows + begin, tile_of_up.data() + t * cpu::kRowTile,
                    end - begin);
      }
    }
  });
}

// Input: x. The weights and their biases belong to the primitive.
class Linear : public CpuPrimitive {
 public:
  Linear(const KernelContext& context, std::vector<LinearWeight> weights, bool swiglu)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        weights_(std::move(weights)),
        swiglu_(swiglu) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    Activations activations(floats(inputs[0]), inputs[0].shape(0), inputs[0].shape(-1), *threads_);
    std::vector<Job> jobs;
    for (size_t i = 0; i < weights_.size(); ++i) {
      const LinearWeight& w = weights_[i];
      jobs.push_back({.matrix = w.weight.ref,
                      .bias = w.bias ? floats(*w.bias) : nullptr,
                      .x = activations.view_for(w.weight.ref),
                      .out = i < outputs.size() ? floats(outputs[i]) : nullptr});
    }
    if (swiglu_) {
      run_swiglu(jobs[0], jobs[1], *threads_);
    } else {
      run_jobs(jobs, *threads_);
    }
  }
  const char* name() const override { return swiglu_ ? "swiglu_mlp_fused" : "q_gemm_dequant"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  std::vector<LinearWeight> weights_;
  bool swiglu_;
};

}  // namespace

std::vector<mx::array> q_gemm_dequant(const mx::array& x,
                                      const std::vector<const LinearWeight*>& weights,
                                      const KernelContext& context) {
  std::vector<mx::Shape> shapes;
  std::vector<LinearWeight> held;
  for (const LinearWeight* w : weights) {
    shapes.push_back({x.shape(0), static_cast<int>(w->weight.rows())});
    held.push_back(*w);
  }
  return run(Linear(context, std::move(held), false), shapes, {x});
}

mx::array swiglu_mlp_fused(const mx::array& x, const LinearWeight& gate, const LinearWeight& up,
                           const KernelContext& context) {
  const mx::Shape shape{x.shape(0), static_cast<int>(gate.weight.rows())};
  return run(Linear(context, {gate, up}, true), {shape}, {x})[0];
}

}  // namespace mlxr
