// embed, norm_fused, add_norm_fused and soft_cap: the row-wise ends of a layer and of a model.
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
  Embed(const KernelContext& context, Weight table, float scale,
        std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        table_(std::move(table)),
        scale_(scale),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    float* out = floats(outputs[0]);
    const cpu::MatrixRef& table = table_.ref;
    each_row(*threads_, plan_->tokens(), [&](int64_t t) {
      cpu::decode_row(table, plan_->token_ids[static_cast<size_t>(t)], out + t * table.cols);
      if (scale_ != 1.0f) cpu::scale(out + t * table.cols, scale_, table.cols);
    });
  }
  const char* name() const override { return "embed"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  Weight table_;
  float scale_;
  std::shared_ptr<const StepPlan> plan_;
};

class EmbedWithPlaces : public CpuPrimitive {
 public:
  EmbedWithPlaces(const KernelContext& context, std::vector<Weight> tables,
                  std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        tables_(std::move(tables)),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    (void)inputs;
    allocate(outputs);
    const int64_t n = tables_[0].cols();
    float* out = floats(outputs[0]);
    each_row(*threads_, plan_->tokens(), [&](int64_t t) {
      thread_local std::vector<float> row;
      row.resize(static_cast<size_t>(n));
      const auto at = static_cast<size_t>(t);
      float* sum = out + t * n;
      cpu::decode_row(tables_[0].ref, plan_->token_ids[at], sum);
      const auto add = [&](const Weight& table, int64_t index) {
        cpu::decode_row(table.ref, index, row.data());
        cpu::add(sum, row.data(), n, sum);
      };
      if (tables_.size() > 2) add(tables_[2], plan_->token_types[at]);
      add(tables_[1], plan_->positions[at]);
    });
  }
  const char* name() const override { return "embed"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  std::vector<Weight> tables_;
  std::shared_ptr<const StepPlan> plan_;
};

// Inputs: x; or residual, x, with the sum as a first output.
class Norm : public CpuPrimitive {
 public:
  Norm(const KernelContext& context, NormWeight weight)
      : CpuPrimitive(context.stream), threads_(context.threads), weight_(std::move(weight)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    const bool fused = inputs.size() == 2;
    const int64_t n = inputs[0].shape(-1);
    const int64_t rows = inputs[0].shape(0);
    const float* x = floats(inputs[0]);
    const float* other = fused ? floats(inputs[1]) : nullptr;
    float* sum = fused ? floats(outputs[0]) : nullptr;
    float* normed = floats(outputs.back());
    each_row(*threads_, rows, [&](int64_t r) {
      const float* row = x + r * n;
      if (sum != nullptr) {
        cpu::add(row, other + r * n, n, sum + r * n);
        row = sum + r * n;
      }
      norm_row(weight_, row, n, normed + r * n);
    });
  }
  const char* name() const override {
    return weight_.kind == cpu::NormKind::kRms ? "rmsnorm_fused" : "layernorm_fused";
  }

 private:
  std::shared_ptr<ThreadPool> threads_;
  NormWeight weight_;
};

class SoftCap : public CpuPrimitive {
 public:
  SoftCap(const KernelContext& context, float cap)
      : CpuPrimitive(context.stream), threads_(context.threads), cap_(cap) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    constexpr int64_t kGrain = 4096;
    const auto n = static_cast<int64_t>(inputs[0].size());
    const float* x = floats(inputs[0]);
    float* out = floats(outputs[0]);
    threads_->parallel_for(n, kGrain, [&](int64_t begin, int64_t end, int) {
      std::copy(x + begin, x + end, out + begin);
      cpu::soft_cap(out + begin, cap_, end - begin);
    });
  }
  const char* name() const override { return "soft_cap"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  float cap_;
};

class SelectRows : public CpuPrimitive {
 public:
  SelectRows(const KernelContext& context, std::vector<int32_t> rows)
      : CpuPrimitive(context.stream), rows_(std::move(rows)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    const int64_t n = inputs[0].shape(-1);
    float* out = floats(outputs[0]);
    for (int32_t row : rows_) out = std::copy_n(floats(inputs[0]) + row * n, n, out);
  }
  const char* name() const override { return "select_rows"; }

 private:
  std::vector<int32_t> rows_;
};

}  // namespace

mx::array select_rows(const mx::array& x, const std::vector<int32_t>& rows,
                      const KernelContext& context) {
  const auto count = static_cast<int>(rows.size());
  if (count == x.shape(0)) return x;  // in order, each at most once: all of them
  return run(context, SelectRows(context, rows), {{count, x.shape(1)}}, {x})[0];
}

mx::array embed_with_places(const std::vector<Weight>& tables, std::shared_ptr<const StepPlan> plan,
                            const KernelContext& context) {
  const mx::Shape shape{plan->tokens(), static_cast<int>(tables[0].cols())};
  return run(context, EmbedWithPlaces(context, tables, std::move(plan)), {shape}, {})[0];
}

mx::array embed(const Weight& table, float scale, std::shared_ptr<const StepPlan> plan,
                const KernelContext& context) {
  const mx::Shape shape{plan->tokens(), static_cast<int>(table.cols())};
  return run(context, Embed(context, table, scale, std::move(plan)), {shape}, {})[0];
}

mx::array norm_fused(const mx::array& x, const NormWeight& weight, const KernelContext& context) {
  return run(context, Norm(context, weight), {x.shape()}, {x})[0];
}

NormedSum add_norm_fused(const mx::array& residual, const mx::array& x, const NormWeight& weight,
                         const KernelContext& context) {
  auto out = run(context, Norm(context, weight), {x.shape(), x.shape()}, {residual, x});
  return {out[0], out[1]};
}

mx::array soft_cap(const mx::array& x, float cap, const KernelContext& context) {
  return run(context, SoftCap(context, cap), {x.shape()}, {x})[0];
}

}  // namespace mlxr
