// Over a row of logits: argmax, top-k and softmax, and what a sort would take. GB/s of logits read,
// and the share of the machine's if MLXR_BENCH_LIMITS names a file of its limits (limits.h).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "bench/limits.h"
#include "core/kernels/cpu/softmax.h"
#include "core/kernels/cpu/topk.h"

namespace {

using namespace mlxr;

constexpr int64_t kVocab = 151936;

std::vector<float> logits(int64_t n, bool rising = false) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(random);
  if (rising) std::sort(x.begin(), x.end());
  return x;
}

void finish(benchmark::State& state, size_t logits) {
  bench::count_rate(state, static_cast<double>(logits * sizeof(float)), bench::Limit::kRead);
}

// The bandwidth that the others are a share of: adding up the row.
void read_only(benchmark::State& state) {
  const auto x = logits(kVocab);
  for (auto _ : state) {
    uint64_t sums[16] = {};
    const auto* words = reinterpret_cast<const uint64_t*>(x.data());
    for (size_t i = 0; i + 16 <= x.size() / 2; i += 16) {
      for (size_t j = 0; j < 16; ++j) sums[j] += words[i + j];
    }
    benchmark::DoNotOptimize(sums);
  }
  finish(state, x.size());
}

void argmax(benchmark::State& state) {
  const auto x = logits(kVocab);
  for (auto _ : state) benchmark::DoNotOptimize(cpu::argmax(x));
  finish(state, x.size());
}

void has_nan(benchmark::State& state) {
  const auto x = logits(kVocab);
  for (auto _ : state) benchmark::DoNotOptimize(cpu::has_nan(x));
  finish(state, x.size());
}

void max_element(benchmark::State& state) {
  const auto x = logits(kVocab);
  for (auto _ : state) benchmark::DoNotOptimize(std::max_element(x.begin(), x.end()));
  finish(state, x.size());
}

void top_k(benchmark::State& state, bool rising) {
  const auto x = logits(kVocab, rising);
  std::vector<cpu::TopLogit> top;
  for (auto _ : state) {
    cpu::top_k(x, static_cast<int32_t>(state.range(0)), top);
    benchmark::DoNotOptimize(top.data());
  }
  finish(state, x.size());
}

void partial_sort(benchmark::State& state) {
  const auto x = logits(kVocab);
  std::vector<int32_t> ids(x.size());
  for (auto _ : state) {
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + state.range(0), ids.end(),
                      [&](int32_t a, int32_t b) {
                        const float l = x[static_cast<size_t>(a)], r = x[static_cast<size_t>(b)];
                        return l > r || (l == r && a < b);
                      });
    benchmark::DoNotOptimize(ids.data());
  }
  finish(state, x.size());
}

void softmax(benchmark::State& state) {
  const auto x = logits(state.range(0));
  auto p = x;
  for (auto _ : state) {
    std::copy(x.begin(), x.end(), p.begin());
    benchmark::DoNotOptimize(cpu::softmax(p, 0.8f));
  }
  finish(state, x.size());
}

void softmax_scalar(benchmark::State& state) {
  const auto x = logits(state.range(0));
  auto p = x;
  for (auto _ : state) {
    const float most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += p[i] = std::exp((x[i] - most) / 0.8f);
    for (float& v : p) v *= static_cast<float>(1 / sum);
    benchmark::DoNotOptimize(p.data());
  }
  finish(state, x.size());
}

void log_sum_exp(benchmark::State& state) {
  const auto x = logits(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(cpu::log_sum_exp(x));
  finish(state, x.size());
}

BENCHMARK(read_only)->Unit(benchmark::kMicrosecond);
BENCHMARK(argmax)->Unit(benchmark::kMicrosecond);
BENCHMARK(has_nan)->Unit(benchmark::kMicrosecond);
BENCHMARK(max_element)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(top_k, random, false)
    ->Arg(1)
    ->Arg(40)
    ->Arg(256)
    ->Arg(4096)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(top_k, rising, true)->Arg(40)->Unit(benchmark::kMicrosecond);
BENCHMARK(partial_sort)->Arg(1)->Arg(40)->Arg(256)->Arg(4096)->Unit(benchmark::kMicrosecond);
BENCHMARK(softmax)->Arg(kVocab)->Arg(64)->Unit(benchmark::kMicrosecond);
BENCHMARK(softmax_scalar)->Arg(kVocab)->Unit(benchmark::kMicrosecond);
BENCHMARK(log_sum_exp)->Arg(kVocab)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
