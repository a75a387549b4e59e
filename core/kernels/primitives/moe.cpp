// moe_grouped_gemm: every expert of a mixture once for all the tokens that chose it.
#include <algorithm>
#include <cmath>

#include "core/base/aligned_buffer.h"
#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/ops.h"
#include "core/kernels/primitives/products.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// Tokens a thread takes at once.
constexpr int64_t kTokenGrain = 8;

// An expert that some rows chose.
struct Group {
  int32_t expert = 0;
  int64_t first = 0, rows = 0;
};

// Kept from layer to layer, so that a step does not allocate. Of the thread that steps.
struct Workspace {
  std::vector<cpu::ExpertChoice> choices;  // [tokens, used]
  cpu::ExpertRows sorted;
  std::vector<Group> groups;
  AlignedBuffer<float> inputs, activated, results;  // a row a choice, sorted
  std::vector<ProductInput> forms;                  // of each group
};

// Inputs: x [tokens, hidden], router logits [tokens, experts]; then the shared expert's result
// [tokens, hidden] and the logits of its gate [tokens, 1], where there are such.
class MoeGroupedGemm : public CpuPrimitive {
 public:
  MoeGroupedGemm(const KernelContext& context, MoeExperts experts, const MoeParams& params)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        experts_(std::move(experts)),
        params_(params) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    thread_local Workspace of_this_thread;
    Workspace& w = of_this_thread;  // a lambda on another thread would see its own
    const mx::array& x = inputs[0];
    const int64_t tokens = x.shape(0), hidden = x.shape(1);
    choose(inputs[1], w);
    const float* rows = gather(floats(x), tokens, hidden, w);
    const float* results = run_experts(rows, hidden, w);
    each_token(tokens,
               [&](int64_t t) { combine(inputs, results, w, t, floats(outputs[0]) + t * hidden); });
  }
  const char* name() const override { return "moe_grouped_gemm"; }

 private:
  int64_t used() const { return params_.router.used; }

  template <class Body>
  void each_token(int64_t tokens, const Body& body) const {
    if (tokens <= kTokenGrain) {  // cheaper than waking a thread
      for (int64_t t = 0; t < tokens; ++t) body(t);
      return;
    }
    threads_->parallel_for(tokens, kTokenGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) body(t);
    });
  }

  void choose(const mx::array& logits, Workspace& w) const {
    const int64_t tokens = logits.shape(0), experts = logits.shape(1);
    w.choices.resize(static_cast<size_t>(tokens * used()));
    each_token(tokens, [&](int64_t t) {
      cpu::route({floats(logits) + t * experts, static_cast<size_t>(experts)},
                 params_.router_bias ? floats(*params_.router_bias) : nullptr, params_.router,
                 w.choices.data() + t * used());
    });
    cpu::sort_by_expert(w.choices, params_.router.used, static_cast<int32_t>(experts), w.sorted);
    w.groups.clear();
    for (int32_t e = 0; e < experts; ++e) {
      const int64_t first = w.sorted.first[static_cast<size_t>(e)];
      const int64_t rows = w.sorted.first[static_cast<size_t>(e) + 1] - first;
      if (rows > 0) w.groups.push_back({e, first, rows});
    }
    if (w.forms.size() < w.groups.size()) w.forms.resize(w.groups.size());
  }

  const float* gather(const float* x, int64_t tokens, int64_t hidden, Workspace& w) const {
    float* rows = w.inputs.at_least(static_cast<size_t>(tokens * used() * hidden));
    each_token(tokens, [&](int64_t t) {
      for (int64_t i = t * used(); i < (t + 1) * used(); ++i) {
        std::copy_n(x + t * hidden, hidden, rows + w.sorted.rows[static_cast<size_t>(i)] * hidden);
      }
    });
    return rows;
  }

  // [rows, hidden] of what each row's expert makes of it.
  const float* run_experts(const float* rows, int64_t hidden, Workspace& w) const {
    const int64_t ffn = (*experts_)[0].up.weight.rows();
    float* activated = w.activated.at_least(w.choices.size() * static_cast<size_t>(ffn));
    float* results = w.results.at_least(w.choices.size() * static_cast<size_t>(hidden));
    std::vector<GatedJob> gated;
    std::vector<ProductJob> down;
    for (size_t g = 0; g < w.groups.size(); ++g) {
      const auto& [expert, first, count] = w.groups[g];
      const MlpWeights& mlp = (*experts_)[static_cast<size_t>(expert)];
      w.forms[g].set(rows + first * hidden, count, hidden);
      gated.push_back({product_job(*mlp.gate, w.forms[g], activated + first * ffn, *threads_),
                       product_job(mlp.up, w.forms[g], nullptr, *threads_)});
    }
    run_gated(gated, params_.activation, *threads_);
    for (size_t g = 0; g < w.groups.size(); ++g) {
      const auto& [expert, first, count] = w.groups[g];
      const MlpWeights& mlp = (*experts_)[static_cast<size_t>(expert)];
      w.forms[g].set(activated + first * ffn, count, ffn);
      down.push_back(product_job(mlp.down, w.forms[g], results + first * hidden, *threads_));
    }
    run_products(down, *threads_);
    return results;
  }

  // The sum over a token's experts, best first, then the shared one.
  void combine(const std::vector<mx::array>& inputs, const float* results, const Workspace& w,
               int64_t token, float* out) const {
    const int64_t hidden = inputs[0].shape(1);
    std::fill_n(out, hidden, 0.0f);
    for (int64_t i = token * used(); i < (token + 1) * used(); ++i) {
      const auto at = static_cast<size_t>(i);
      cpu::add_scaled(results + w.sorted.rows[at] * hidden, w.choices[at].weight, hidden, out);
    }
    if (inputs.size() < 3) return;
    const float weight =
        inputs.size() < 4 ? 1.0f : 1.0f / (1.0f + std::exp(-floats(inputs[3])[token]));
    cpu::add_scaled(floats(inputs[2]) + token * hidden, weight, hidden, out);
  }

  std::shared_ptr<ThreadPool> threads_;
  MoeExperts experts_;
  MoeParams params_;
};

}  // namespace

mx::array moe_grouped_gemm(const mx::array& x, const mx::array& router_logits,
                           const MoeExperts& experts, const MoeParams& params,
                           const std::vector<mx::array>& shared, const KernelContext& context) {
  std::vector<mx::array> inputs{x, router_logits};
  inputs.insert(inputs.end(), shared.begin(), shared.end());
  return run(context, MoeGroupedGemm(context, experts, params), {x.shape()}, inputs)[0];
}

}  // namespace mlxr
