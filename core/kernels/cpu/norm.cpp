#include "core/kernels/cpu/norm.h"

#include <cmath>

#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/norm.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using DNorm = hn::ScalableTag<float>;

// The sum of add(acc, v) over vectors and rest(x[i]) over what follows them.
template <class Add, class Rest>
HWY_INLINE float sum_over(const float* x, int64_t n, const Add& add, const Rest& rest) {
  const DNorm d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto acc = hn::Zero(d);
  float after = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) acc = add(acc, hn::LoadU(d, x + i));
  for (; i < n; ++i) after += rest(x[i]);
  return hn::GetLane(hn::SumOfLanes(d, acc)) + after;
}

void rms_norm_target(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const DNorm d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float sum = sum_over(
      x, n, [](auto acc, auto v) HWY_ATTR { return hn::MulAdd(v, v, acc); },
      [](float v) { return v * v; });
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  const auto s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::Mul(hn::LoadU(d, x + i), s);
    hn::StoreU(hn::Mul(v, hn::LoadU(d, weight + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void layer_norm_target(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                       float* out) {
  const DNorm d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto count = static_cast<float>(n);
  const auto plus = [](auto acc, auto v) HWY_ATTR { return hn::Add(acc, v); };
  const float mean = sum_over(x, n, plus, [](float v) { return v; }) / count;
  const auto m = hn::Set(d, mean);
  // What the mean lost to rounding.
  const float rest =
      sum_over(
          x, n, [&](auto acc, auto v) HWY_ATTR { return hn::Add(acc, hn::Sub(v, m)); },
          [&](float v) { return v - mean; }) /
      count;
  const auto r = hn::Set(d, rest);
  const float squares = sum_over(
      x, n,
      [&](auto acc, auto v) HWY_ATTR {
        const auto away = hn::Sub(hn::Sub(v, m), r);
        return hn::MulAdd(away, away, acc);
      },
      [&](float v) { return (v - mean - rest) * (v - mean - rest); });
  const float scale = 1.0f / std::sqrt(squares / count + eps);
  const auto s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto away = hn::Sub(hn::Sub(hn::LoadU(d, x + i), m), r);
    const auto scaled = hn::Mul(hn::Mul(away, s), hn::LoadU(d, weight + i));
    hn::StoreU(bias == nullptr ? scaled : hn::Add(scaled, hn::LoadU(d, bias + i)), d, out + i);
  }
  for (; i < n; ++i) {
    const float scaled = (x[i] - mean - rest) * scale * weight[i];
    out[i] = bias == nullptr ? scaled : scaled + bias[i];
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(rms_norm_target);
HWY_EXPORT(layer_norm_target);

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(rms_norm_target)(x, weight, eps, n, out);
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(layer_norm_target)(x, weight, bias, eps, n, out);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
