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

cpu::QuantizedActivations& stream_activations() {
  thread_local cpu::QuantizedActivations activations;
  return activations;
}

cpu::ActivationView prepare(const float* x, int64_t tokens, int64_t k, bool quantize,
                            ThreadPool& threads) {
  cpu::ActivationView view{.x = x, .stride = k, .columns = tokens, .k = k, .quantized = nullptr};
  if (quantize) {
    auto& quantized = stream_activations();
    cpu::quantize_activations(x, k, tokens, k, quantized, threads);
    view.quantized = &quantized;
  }
  return view;
}

// Rows [begin, end) of one product with its bias; `out` is where row `begin` of the first token
// goes.
void run_tile(const Job& job, int64_t begin, int64_t end, const cpu::ActivationView& x, float* out,
              int64_t stride) {
  cpu::matmul_rows(job.matrix, begin, end, x, out, stride, worker_scratch().matmul);
  if (job.bias == nullptr) return;
  for (int64_t t = 0; t < x.columns; ++t) {
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
void run_jobs(const std::vector<Job>& jobs, const cpu::ActivationView& x, ThreadPool& threads) {
  int64_t total = 0;
  for (const Job& job : jobs) total += tiles_of(job.matrix.rows);
  threads.parallel_for(total, tile_grain(jobs[0].matrix), [&](int64_t begin, int64_t end, int) {
    for (const Job& job : jobs) {
      const int64_t tiles = tiles_of(job.matrix.rows);
      const int64_t first = std::max<int64_t>(begin, 0), last = std::min(end, tiles);
      if (first < last) {
        const int64_t row = first * cpu::kRowTile;
        run_tile(job, row, std::min(last * cpu::kRowTile, job.matrix.rows), x, job.out + row,
                 job.matrix.rows);
      }
      begin -= tiles;
      end -= tiles;
      if (end <= 0) break;
    }
  });
}

// Silu(gate) * up a tile at a time: the up tile lives in a scratch that stays in the cache.
void run_swiglu(const Job& gate, const Job& up, const cpu::ActivationView& x, ThreadPool& threads) {
  const int64_t rows = gate.matrix.rows;
  threads.parallel_for(tiles_of(rows), 1, [&](int64_t first, int64_t last, int) {
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t begin = tile * cpu::kRowTile, end = std::min(begin + cpu::kRowTile, rows);
      run_tile(gate, begin, end, x, gate.out + begin, rows);
      std::vector<float>& tile_of_up = worker_scratch().tile;
      tile_of_up.resize(static_cast<size_t>(x.columns * cpu::kRowTile));
      run_tile(up, begin, end, x, tile_of_up.data(), cpu::kRowTile);
      for (int64_t t = 0; t < x.columns; ++t) {
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
    bool quantize = false;
    for (size_t i = 0; i < weights_->size(); ++i) {
      const LinearWeight& w = (*weights_)[i];
      jobs.push_back({.matrix = w.weight.ref,
                      .bias = w.bias ? floats(*w.bias) : nullptr,
                      .out = i < outputs.size() ? floats(outputs[i]) : nullptr});
      quantize = quantize || cpu::needs_quantized_activations(w.weight.ref);
    }
    enqueue([threads = threads_, weights = weights_, swiglu = swiglu_, jobs = std::move(jobs),
             quantize, x = floats(inputs[0]), tokens = inputs[0].shape(0),
             k = inputs[0].shape(-1)] {
      const cpu::ActivationView view = prepare(x, tokens, k, quantize, *threads);
      if (swiglu) {
        run_swiglu(jobs[0], jobs[1], view, *threads);
      } else {
        run_jobs(jobs, view, *threads);
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
