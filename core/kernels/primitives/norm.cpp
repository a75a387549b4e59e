// embed, rmsnorm_fused and add_rmsnorm_fused: the row-wise ends of a layer.
#include <algorithm>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// Rows a thread takes at once: a row is a few microseconds of work.
constexpr int64_t kRowGrain = 8;

template <class Row>
void each_row(ThreadPool& pool, int64_t rows, Row row) {
  if (rows <= kRowGrain) {  // cheaper than waking a thread
    for (int64_t r = 0; r < rows; ++r) row(r);
    return;
  }
  pool.parallel_for(rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) row(r);
  });
}

class Embed : public CpuPrimitive {
 public:
  Embed(const KernelContext& context, Weight table, std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        table_(std::move(table)),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    enqueue([threads = threads_, plan = plan_, held = table_, out = floats(outputs[0])] {
      const cpu::MatrixRef& table = held.ref;
      each_row(*threads, plan->tokens(), [&](int64_t t) {
        cpu::decode_row(table, plan->token_ids[static_cast<size_t>(t)], out + t * table.cols);
      });
    });
  }
  const char* name() const override { return "embed"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  Weight table_;
  std::shared_ptr<const StepPlan> plan_;
};

// Inputs: x, weight; or residual, x, weight, with the sum as a first output.
class RmsNorm : public CpuPrimitive {
 public:
  RmsNorm(const KernelContext& context, float eps)
      : CpuPrimitive(context.stream), threads_(context.threads), eps_(eps) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    const bool fused = inputs.size() == 3;
    const int64_t n = inputs[0].shape(-1);
    const int64_t rows = inputs[0].shape(0);
    const float* x = floats(inputs[0]);
    const float* other = fused ? floats(inputs[1]) : nullptr;
    float* sum = fused ? floats(outputs[0]) : nullptr;
    enqueue([threads = threads_, eps = eps_, weight = floats(inputs.back()),
             normed = floats(outputs.back()), n, rows, x, other, sum] {
      each_row(*threads, rows, [&](int64_t r) {
        const float* row = x + r * n;
        if (sum != nullptr) {
          cpu::add(row, other + r * n, n, sum + r * n);
          row = sum + r * n;
        }
        cpu::rms_norm(row, weight, eps, n, normed + r * n);
      });
    });
  }
  const char* name() const override { return "rmsnorm_fused"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  float eps_;
};

}  // namespace

mx::array embed(const Weight& table, std::shared_ptr<const StepPlan> plan,
                const KernelContext& context) {
  const mx::Shape shape{plan->tokens(), static_cast<int>(table.cols())};
  return mx::array(shape, mx::float32, std::make_shared<Embed>(context, table, std::move(plan)),
                   {});
}

mx::array rmsnorm_fused(const mx::array& x, const mx::array& weight, float eps,
                        const KernelContext& context) {
  return mx::array(x.shape(), mx::float32, std::make_shared<RmsNorm>(context, eps), {x, weight});
}

NormedSum add_rmsnorm_fused(const mx::array& residual, const mx::array& x, const mx::array& weight,
                            float eps, const KernelContext& context) {
  auto out = mx::array::make_arrays({x.shape(), x.shape()}, {mx::float32, mx::float32},
                                    std::make_shared<RmsNorm>(context, eps), {residual, x, weight});
  return {out[0], out[1]};
}

}  // namespace mlxr
