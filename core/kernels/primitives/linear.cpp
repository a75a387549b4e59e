// q_gemm_dequant, activated_mlp_fused and swiglu_mlp_fused: products of weights with activations
// that are quantised once.
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/low_rank.h"
#include "core/kernels/primitives/ops.h"
#include "core/kernels/primitives/products.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

ProductInput& input_of(const mx::array& x) {
  thread_local ProductInput input;
  input.set(floats(x), x.shape(0), x.shape(-1));
  return input;
}

// What `terms` add to products of x; nothing where there are none.
LowRankAddends& addends_of(const mx::array& x, const std::vector<LowRankTerms>& terms,
                           ThreadPool& threads) {
  thread_local LowRankAddends addends;
  addends.compute(floats(x), x.shape(-1), terms, threads);
  return addends;
}

// Input: x. The weights, their biases and terms belong to the primitive.
class Linear : public CpuPrimitive {
 public:
  Linear(const KernelContext& context, std::vector<LinearWeight> weights,
         std::optional<cpu::Activation> activation, std::vector<LowRankTerms> terms)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        weights_(std::move(weights)),
        activation_(activation),
        terms_(std::move(terms)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    ProductInput& input = input_of(inputs[0]);
    const LowRankAddends& addends = addends_of(inputs[0], terms_, *threads_);
    std::vector<ProductJob> jobs;
    for (size_t i = 0; i < weights_.size(); ++i) {
      jobs.push_back(product_job(weights_[i], input, floats(outputs[i]), *threads_));
      jobs.back().activation = activation_;
      jobs.back().addends = addends.of(i);
    }
    run_products(jobs, *threads_);
  }
  const char* name() const override {
    return activation_ ? "activated_mlp_fused" : "q_gemm_dequant";
  }

 private:
  std::shared_ptr<ThreadPool> threads_;
  std::vector<LinearWeight> weights_;
  std::optional<cpu::Activation> activation_;
  std::vector<LowRankTerms> terms_;
};

// Input: x.
class GatedMlp : public CpuPrimitive {
 public:
  GatedMlp(const KernelContext& context, LinearWeight gate, LinearWeight up,
           cpu::Activation activation, std::vector<LowRankTerms> terms)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        gate_(std::move(gate)),
        up_(std::move(up)),
        activation_(activation),
        terms_(std::move(terms)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    ProductInput& input = input_of(inputs[0]);
    const LowRankAddends& addends = addends_of(inputs[0], terms_, *threads_);
    GatedJob job{product_job(gate_, input, floats(outputs[0]), *threads_),
                 product_job(up_, input, nullptr, *threads_)};
    job.gate.addends = addends.of(0);
    job.up.addends = addends.of(1);
    run_gated({job}, activation_, *threads_);
  }
  const char* name() const override { return "swiglu_mlp_fused"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  LinearWeight gate_, up_;
  cpu::Activation activation_;
  std::vector<LowRankTerms> terms_;
};

}  // namespace

std::vector<mx::array> q_gemm_dequant(const mx::array& x,
                                      const std::vector<const LinearWeight*>& weights,
                                      const KernelContext& context,
                                      std::vector<LowRankTerms> terms) {
  std::vector<mx::Shape> shapes;
  std::vector<LinearWeight> held;
  for (const LinearWeight* w : weights) {
    shapes.push_back({x.shape(0), static_cast<int>(w->weight.rows())});
    held.push_back(*w);
  }
  return run(context, Linear(context, std::move(held), {}, std::move(terms)), shapes, {x});
}

mx::array activated_mlp_fused(const mx::array& x, const LinearWeight& up,
                              cpu::Activation activation, const KernelContext& context,
                              std::vector<LowRankTerms> terms) {
  const mx::Shape shape{x.shape(0), static_cast<int>(up.weight.rows())};
  return run(context, Linear(context, {up}, activation, std::move(terms)), {shape}, {x})[0];
}

mx::array swiglu_mlp_fused(const mx::array& x, const LinearWeight& gate, const LinearWeight& up,
                           cpu::Activation activation, const KernelContext& context,
                           std::vector<LowRankTerms> terms) {
  const mx::Shape shape{x.shape(0), static_cast<int>(gate.weight.rows())};
  return run(context, GatedMlp(context, gate, up, activation, std::move(terms)), {shape}, {x})[0];
}

}  // namespace mlxr
