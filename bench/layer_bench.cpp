// What stands around a layer's products: norms, activations, rotation, quantising of activations,
// routing, embedding, low-rank terms, and a mixture's grouped product. Rows of a step's tokens stay
// in the cache, so the figures are GB/s of floats read and written there by one thread; the
// products' are GB/s of weights (one token) and GOP/s (many). Shares of the machine's limits stand
// beside them if MLXR_BENCH_LIMITS names a file of those (limits.h).
//
//   MLXR_BENCH_THREADS=2 (default 1) for what takes whole steps, named in capitals
//   mlxr-layer-bench --benchmark_filter='Moe'
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>

#include "bench/limits.h"
#include "core/base/huge_pages.h"
#include "core/kernels/cpu/activation.h"
#include "core/kernels/cpu/activations.h"
#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/moe_routing.h"
#include "core/kernels/cpu/norm.h"
#include "core/kernels/primitives/ops.h"
#include "mlx/stream.h"
#include "tests/core/random_weights.h"

namespace {

using namespace mlxr;
namespace mx = mlx::core;
using bench::Limit;

constexpr int64_t kWidth = 2048;  // Llama-1B's

std::vector<float> normal_floats(int64_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

std::shared_ptr<ThreadPool> pool() {
  static const auto instance = [] {
    const char* threads = std::getenv("MLXR_BENCH_THREADS");
    return std::make_shared<ThreadPool>(threads == nullptr ? 1 : std::atoi(threads));
  }();
  return instance;
}

// `floats` are read and written in each iteration.
void count_floats(benchmark::State& state, int64_t floats) {
  bench::count_rate(state, static_cast<double>(floats) * sizeof(float), Limit::kRead);
}

void rms_norm(benchmark::State& state) {
  const auto x = normal_floats(kWidth), weight = normal_floats(kWidth);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    cpu::rms_norm(x.data(), weight.data(), 1e-5f, kWidth, out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 3 * kWidth);
}

void layer_norm(benchmark::State& state) {
  const auto x = normal_floats(kWidth), weight = normal_floats(kWidth);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    cpu::layer_norm(x.data(), weight.data(), weight.data(), 1e-5f, kWidth, out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 4 * kWidth);
}

void add(benchmark::State& state) {
  const auto x = normal_floats(kWidth), y = normal_floats(kWidth);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    cpu::add(x.data(), y.data(), kWidth, out.data());
    benchmark::ClobberMemory();
  }
  count_floats(state, 3 * kWidth);
}

void soft_cap(benchmark::State& state) {
  auto x = normal_floats(kWidth);
  for (auto _ : state) {
    cpu::soft_cap(x.data(), 30.0f, kWidth);
    benchmark::ClobberMemory();
  }
  count_floats(state, 2 * kWidth);
}

void gated(benchmark::State& state, cpu::Activation activation) {
  const auto x = normal_floats(kWidth), up = normal_floats(kWidth);
  auto gate = x;
  for (auto _ : state) {
    std::copy(x.begin(), x.end(), gate.begin());
    cpu::activate_gated(activation, gate.data(), up.data(), kWidth);
    benchmark::ClobberMemory();
  }
  count_floats(state, 3 * kWidth);
}

void rope(benchmark::State& state, bool interleaved) {
  constexpr int64_t kHeadDim = 64;
  auto heads = normal_floats(kWidth);
  const auto cos = normal_floats(kHeadDim / 2);
  const std::vector<float> sin(cos.size(), 0.5f);
  for (auto _ : state) {
    std::fill(heads.begin(), heads.end(), 1.0f);
    for (int64_t at = 0; at < kWidth; at += kHeadDim) {
      cpu::rope(heads.data() + at, cos.data(), sin.data(), kHeadDim / 2, interleaved);
    }
    benchmark::ClobberMemory();
  }
  count_floats(state, 2 * kWidth);
}

void quantize(benchmark::State& state) {
  const int64_t columns = state.range(0);
  const auto x = normal_floats(columns * kWidth);
  cpu::QuantizedActivations out;
  for (auto _ : state) {
    cpu::quantize_activations(x.data(), kWidth, columns, kWidth, std::min<int64_t>(columns, 6), out,
                              *pool());
    benchmark::ClobberMemory();
  }
  count_floats(state, columns * kWidth);
}

// Tokens a second of routing among 64 experts, 8 used: DeepSeek's and Qwen's sizes.
void route(benchmark::State& state) {
  const auto logits = normal_floats(64);
  const cpu::RouterParams params{.used = 8, .renormalize = true};
  std::vector<cpu::ExpertChoice> out(8);
  for (auto _ : state) {
    cpu::route(logits, nullptr, params, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}

// Sixteen experts of which a token takes two, interleaved as a model's are.
class Mixture {
 public:
  static constexpr int kHidden = 2048, kFfn = 1024, kExperts = 16, kUsed = 2;

  explicit Mixture(QuantFormat format) {
    auto mlps = std::make_shared<std::vector<MlpWeights>>();
    for (int e = 0; e < kExperts; ++e) {
      mlps->push_back({.gate = matrix(format, kFfn, kHidden),
                       .up = matrix(format, kFfn, kHidden),
                       .down = matrix(format, kHidden, kFfn)});
      MlpWeights& mlp = mlps->back();
      pack({&mlp.gate->weight, &mlp.up.weight});
      pack({&mlp.down.weight});
    }
    mlps_ = std::move(mlps);
  }
  const MoeExperts& mlps() const { return mlps_; }
  int64_t expert_bytes() const { return bytes_ / kExperts; }

 private:
  LinearWeight matrix(QuantFormat format, int64_t rows, int64_t cols) {
    const auto values = std::make_shared<mlxr::testing::RandomWeight>(
        mlxr::testing::random_weight(format, rows, cols, 1));
    bytes_ += values->view().total_bytes();
    return {Weight{values->ref(), values}, std::nullopt};
  }
  static void pack(const std::vector<Weight*>& weights) {
    const auto memory = std::make_shared<HugePages>(static_cast<size_t>(packed_size(weights)));
    pack_weights(weights, memory->data(), memory, *pool());
  }

  MoeExperts mlps_;
  int64_t bytes_ = 0;
};

mx::array matrix_of(const std::vector<float>& values, int rows) {
  const mx::Shape shape{rows, static_cast<int>(values.size()) / rows};
  return mx::array(values.data(), shape, mx::float32);
}

KernelContext step_context() {
  static const mx::Stream stream = mx::new_stream(mx::Device(mx::Device::cpu));
  return {stream, pool()};
}

void Moe(benchmark::State& state, QuantFormat format) {
  const Mixture mixture(format);
  const int tokens = static_cast<int>(state.range(0));
  const KernelContext context = step_context();
  const mx::array x = matrix_of(normal_floats(int64_t{tokens} * Mixture::kHidden), tokens);
  const mx::array logits = matrix_of(normal_floats(int64_t{tokens} * Mixture::kExperts), tokens);
  MoeParams params;
  params.router = {.used = Mixture::kUsed, .renormalize = true};
  for (auto _ : state) {
    benchmark::DoNotOptimize(moe_grouped_gemm(x, logits, mixture.mlps(), params, {}, context));
  }
  const int threads = pool()->size();
  if (tokens == 1) {
    const auto bytes = static_cast<double>(Mixture::kUsed * mixture.expert_bytes());
    bench::count_rate(state, bytes, Limit::kRead, threads);
  }
  const double work = 2.0 * 3 * Mixture::kHidden * Mixture::kFfn * Mixture::kUsed * tokens;
  bench::count_rate(state, work, Limit::kInt8, threads);
}

Weight weight_of(QuantFormat format, int64_t rows, int64_t cols) {
  const auto values = std::make_shared<mlxr::testing::RandomWeight>(
      mlxr::testing::random_weight(format, rows, cols, 1));
  return {values->ref(), values};
}

// A residual's sum and its norm, as between two halves of a layer.
void AddNorm(benchmark::State& state, cpu::NormKind kind) {
  const int tokens = static_cast<int>(state.range(0));
  const KernelContext context = step_context();
  const mx::array x = matrix_of(normal_floats(tokens * kWidth), tokens);
  const std::vector<float> ones(kWidth, 1.0f);
  const NormWeight weight{kind, 1e-5f, mx::array(ones.data(), {int{kWidth}}, mx::float32), {}};
  for (auto _ : state) benchmark::DoNotOptimize(add_norm_fused(x, x, weight, context));
  bench::count_rate(state, 4.0 * tokens * kWidth * sizeof(float), Limit::kRead, pool()->size());
}

// Rows all over a table that no cache holds.
void Embed(benchmark::State& state, QuantFormat format) {
  constexpr int64_t kVocabulary = 65536;
  const KernelContext context = step_context();
  const Weight table = weight_of(format, kVocabulary, kWidth);
  const auto plan = std::make_shared<StepPlan>();
  for (int64_t t = 0; t < state.range(0); ++t) {
    plan->token_ids.push_back(static_cast<int32_t>(t * 7919 % kVocabulary));
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(embed(table, 1.0f, plan, context));
    for (int32_t& id : plan->token_ids) id = (id + 104729) % int32_t{kVocabulary};
  }
  const auto bytes = static_cast<double>(state.range(0) * row_bytes(format, kWidth));
  bench::count_rate(state, bytes, Limit::kRead, pool()->size());
}

// A product whose rows all take an adapter's term of this rank (0: none), Q4_K and float16.
void LowRank(benchmark::State& state) {
  const int rank = static_cast<int>(state.range(0)), tokens = static_cast<int>(state.range(1));
  const KernelContext context = step_context();
  LinearWeight base{weight_of(QuantFormat::kQ4_K, kWidth, kWidth), std::nullopt};
  Weight* const one[] = {&base.weight};
  if (const int64_t bytes = packed_size(one); bytes > 0) {
    const auto memory = std::make_shared<HugePages>(static_cast<size_t>(bytes));
    pack_weights(one, memory->data(), memory, *pool());
  }
  std::vector<LowRankTerms> terms;
  if (rank > 0) {
    terms.push_back({{.a = weight_of(QuantFormat::kF16, rank, kWidth),
                      .b = weight_of(QuantFormat::kF16, kWidth, rank),
                      .count = tokens}});
  }
  const mx::array x = matrix_of(normal_floats(tokens * kWidth), tokens);
  for (auto _ : state) benchmark::DoNotOptimize(q_gemm_dequant(x, {&base}, context, terms));
  const auto weights = static_cast<double>(row_bytes(QuantFormat::kQ4_K, kWidth) * kWidth +
                                           2 * row_bytes(QuantFormat::kF16, kWidth) * rank);
  if (tokens == 1) bench::count_rate(state, weights, Limit::kRead, pool()->size());
  bench::count_rate(state, 2.0 * tokens * kWidth * (kWidth + 2 * rank), Limit::kInt8,
                    pool()->size());
}

BENCHMARK(rms_norm);
BENCHMARK(layer_norm);
BENCHMARK(add);
BENCHMARK(soft_cap);
BENCHMARK_CAPTURE(gated, silu, cpu::Activation::kSilu);
BENCHMARK_CAPTURE(gated, gelu, cpu::Activation::kGelu);
BENCHMARK_CAPTURE(gated, gelu_tanh, cpu::Activation::kGeluTanh);
BENCHMARK_CAPTURE(rope, halves, false);
BENCHMARK_CAPTURE(rope, interleaved, true);
BENCHMARK(quantize)->Arg(1)->Arg(8)->Arg(512);
BENCHMARK(route);
BENCHMARK_CAPTURE(Moe, Q4_K, QuantFormat::kQ4_K)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(Moe, Q8_0, QuantFormat::kQ8_0)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(AddNorm, rms, cpu::NormKind::kRms)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(AddNorm, layer, cpu::NormKind::kLayer)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(Embed, F16, QuantFormat::kF16)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(Embed, Q8_0, QuantFormat::kQ8_0)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(Embed, Q4_K, QuantFormat::kQ4_K)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(Embed, Q6_K, QuantFormat::kQ6_K)->Arg(1)->Arg(512)->UseRealTime();
BENCHMARK(LowRank)->ArgsProduct({{0, 16, 64}, {1, 8, 512}})->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
