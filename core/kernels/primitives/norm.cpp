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
    float* out = floats(outputs[0]);
    const cpu::MatrixRef& table = table_.ref;
    each_row(*threads_, plan_->tokens(), [&](int64_t t) {
      cpu::decode_row(table, plan_->token_ids[static_cast<size_t>(t)], out + t * table.cols);
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
    const float* weight = floats(inputs.back());
    float* normed = floats(outputs.back());
    each_row(*threads_, rows, [&](int64_t r) {
      const float* row = x + r * n;
      if (sum != nullptr) {
        cpu::add(row, other + r * n, n, sum + r * n);
        row = sum + r * n;
      }
      cpu::rms_norm(row, weight, eps_, n, normed + r * n);
    });
  }
  const char* name() const override { return "rmsnorm_fused"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  float eps_;
};

class SelectRows : public CpuPrimitive {
 public:
  SelectRows(const KernelContext& context, std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream), plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    const int64_t n = inputs[0].shape(-1);
    float* out = floats(outputs[0]);
    for (int32_t row : plan_->logit_rows) out = std::copy_n(floats(inputs[0]) + row * n, n, out);
  }
  const char* name() const override { return "select_rows"; }

 private:
  std::shared_ptr<const StepPlan> plan_;
};

}  // namespace

mx::array select_rows(const mx::array& x, const std::shared_ptr<const StepPlan>& plan,
                      const KernelContext& context) {
  const auto rows = static_cast<int>(plan->logit_rows.size());
  if (rows == x.shape(0)) return x;
  return run(SelectRows(context, plan), {{rows, x.shape(1)}}, {x})[0];
}

mx::array embed(const Weight& table, std::shared_ptr<const StepPlan> plan,
                const KernelContext& context) {
  const mx::Shape shape{plan->tokens(), static_cast<int>(table.cols())};
  return run(Embed(context, table, std::move(plan)), {shape}, {})[0];
}

mx::array rmsnorm_fused(const mx::array& x, const mx::array& weight, float eps,
                        const KernelContext& context) {
  return run(RmsNorm(context, eps), {x.shape()}, {x, weight})[0];
}

NormedSum add_rmsnorm_fused(const mx::array& residual, const mx::array& x, const mx::array& weight,
                            float eps, const KernelContext& context) {
  auto out = run(RmsNorm(context, eps), {x.shape(), x.shape()}, {residual, x, weight});
  return {out[0], out[1]};
}

}  // namespace mlxr
