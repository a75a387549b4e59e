#include "core/kernels/cpu/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/simd_level.h"
#include "core/kernels/cpu/topk.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/softmax.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sixteen chains, in as many vectors as they take.
constexpr int64_t kChains = 16;
using DSum = hn::CappedTag<float, static_cast<size_t>(kChains)>;
constexpr auto kSumLanes = static_cast<int64_t>(hn::MaxLanes(DSum()));
constexpr int64_t kSumParts = kChains / kSumLanes;

// Weights of sixteen logits at `x`, added to the chains and written to `out` if it is not null.
HWY_INLINE void add_weights(const float* x, float max, float temperature,
                            hn::Vec<DSum> (&chains)[kSumParts], float* out) {
  const DSum d;
  for (int64_t p = 0; p < kSumParts; ++p) {
    const auto v = hn::LoadU(d, x + p * kSumLanes), most = hn::Set(d, max);
    const auto below = hn::Div(hn::Sub(v, most), hn::Set(d, temperature));
    // hn::Exp is 0 below -104, and for a NaN.
    const auto weight = hn::Exp(d, hn::IfThenZeroElse(hn::Eq(v, most), below));
    chains[p] = hn::Add(chains[p], weight);
    if (out != nullptr) hn::StoreU(weight, d, out + p * kSumLanes);
  }
}

// Up to 4096 logits: the sum of their weights, which replace them in `out` if it is not null.
double weigh_block_target(const float* x, int64_t n, float max, float temperature, float* out) {
  const DSum d;
  hn::Vec<DSum> chains[kSumParts];
  for (auto& chain : chains) chain = hn::Zero(d);
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains) {
    add_weights(x + i, max, temperature, chains, out == nullptr ? nullptr : out + i);
  }
  if (i < n) {
    float rest[kChains];
    std::fill_n(rest, kChains, std::numeric_limits<float>::quiet_NaN());
    std::copy_n(x + i, n - i, rest);
    add_weights(rest, max, temperature, chains, rest);
    if (out != nullptr) std::copy_n(rest, n - i, out + i);
  }
  float sums[kChains];
  for (int64_t p = 0; p < kSumParts; ++p) hn::StoreU(chains[p], d, sums + p * kSumLanes);
  double total = 0;
  for (float sum : sums) total += sum;
  return total;
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(weigh_block_target);

namespace {

// The sum of the weights exp((x - max) / temperature), written to `out` if it is not null.
double weigh(std::span<const float> x, float max, float temperature, float* out) {
  constexpr size_t kBlock = 4096;
  double sum = 0;
  for (size_t at = 0; at < x.size(); at += kBlock) {
    const auto n = static_cast<int64_t>(std::min(kBlock, x.size() - at));
    sum += HWY_DYNAMIC_DISPATCH(weigh_block_target)(x.data() + at, n, max, temperature,
                                                    out == nullptr ? nullptr : out + at);
  }
  return sum;
}

double log_of(double sum, float max, float temperature) {
  if (sum == 0) return -std::numeric_limits<double>::infinity();
  return static_cast<double>(max) / temperature + std::log(sum);
}

}  // namespace

double softmax(std::span<float> x, float temperature) {
  select_simd_level();
  const float max = largest(x);
  const double sum = weigh(x, max, temperature, x.data());
  if (sum > 0) scale(x.data(), static_cast<float>(1.0 / sum), static_cast<int64_t>(x.size()));
  return log_of(sum, max, temperature);
}

double log_sum_exp(std::span<const float> x, float temperature) {
  select_simd_level();
  const float max = largest(x);
  return log_of(weigh(x, max, temperature, nullptr), max, temperature);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
