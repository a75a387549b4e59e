// q_gemm_dequant and swiglu_mlp_fused: products of weights with activations that are quantised
// once.
#include <algorithm>
#include <memory>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/matmul.h"
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
    if (!cpu::needs_quantized_activations(matrix)) return plain_;
    thread_local cpu::QuantizedActivations forms[2];
    const int64_t tile = cpu::activation_tile(matrix, plain_.columns);
    int i = 0;
    while (i < made_ && forms[i].tile != tile) ++i;
    if (i == made_) {
      made_ = ++i;
      cpu::quantize_activations(plain_.x, plain_.stride, plain_.columns, plain_.k, tile, forms[--i],
                                threads_);
    }
    cpu::ActivationView view = plain_;
    view.quantized = &forms[i];
    return view;
  }

 private:
  ThreadPool& threads_;
  cpu::ActivationView plain_;
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

// Row tiles that a thread claims at once: about 64 KiB of weights, so that claiming costs nothing
// and threads still finish together.
int64_t tile_grain(const cpu::MatrixRef& m) {
  const int64_t tile_bytes = std::max<int64_t>(1, m.row_stride * cpu::kRowTile);
  return std::clamp<int64_t>((64 << 10) / tile_bytes, 1, 8);
}

// The row tiles of several matrices as one loop, so that threads do not wait between them.
void run_jobs(const std::vector<Job>& jobs, ThreadPool& threads) {
  int64_t total = 0;
  for (const Job& job : jobs) total += tiles_of(job.matrix.rows);
  threads.parallel_for(total, tile_grain(jobs[0].matrix), [&](int64_t begin, int64_t end, int) {
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
  threads.parallel_for(tiles_of(rows), 1, [&](int64_t first, int64_t last, int) {
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
        weights_(std::make_shared<const std::vector<LinearWeight>>(std::move(weights))),
        swiglu_(swiglu) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    std::vector<Job> jobs;
    for (size_t i = 0; i < weights_->size(); ++i) {
      const LinearWeight& w = (*weights_)[i];
      jobs.push_back({.matrix = w.weight.ref,
                      .bias = w.bias ? floats(*w.bias) : nullptr,
                      .x = {},
                      .out = i < outputs.size() ? floats(outputs[i]) : nullptr});
    }
    enqueue([threads = threads_, weights = weights_, swiglu = swiglu_, jobs = std::move(jobs),
             x = floats(inputs[0]), tokens = inputs[0].shape(0),
             k = inputs[0].shape(-1)]() mutable {
      Activations activations(x, tokens, k, *threads);
      for (Job& job : jobs) job.x = activations.view_for(job.matrix);
      if (swiglu) {
        run_swiglu(jobs[0], jobs[1], *threads);
      } else {
        run_jobs(jobs, *threads);
      }
    });
  }
  const char* name() const override { return swiglu_ ? "swiglu_mlp_fused" : "q_gemm_dequant"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  std::shared_ptr<const std::vector<LinearWeight>> weights_;
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
  const std::vector<mx::Dtype> types(weights.size(), mx::float32);
  return mx::array::make_arrays(shapes, types,
                                std::make_shared<Linear>(context, std::move(held), false), {x});
}

mx::array swiglu_mlp_fused(const mx::array& x, const LinearWeight& gate, const LinearWeight& up,
                           const KernelContext& context) {
  return mx::array({x.shape(0), static_cast<int>(gate.weight.rows())}, mx::float32,
                   std::make_shared<Linear>(context, std::vector<LinearWeight>{gate, up}, true),
                   {x});
}

}  // namespace mlxr
