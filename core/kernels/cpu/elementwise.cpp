#include "core/kernels/cpu/elementwise.h"

#include <algorithm>

#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/elementwise.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;

// Calls body(i, count) for whole vectors, then once for the rest.
template <class Body, class Tail>
HWY_INLINE void for_lanes(int64_t n, Body body, Tail tail) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i);
  for (; i < n; ++i) tail(i);
}

void add_target(const float* x, const float* y, int64_t n, float* out) {
  const D d;
  for_lanes(
      n,
      [&](int64_t i) { hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, out + i); },
      [&](int64_t i) { out[i] = x[i] + y[i]; });
}

void add_scaled_target(const float* x, float factor, int64_t n, float* out) {
  const D d;
  const auto f = hn::Set(d, factor);
  for_lanes(
      n,
      [&](int64_t i) {
        hn::StoreU(hn::Add(hn::LoadU(d, out + i), hn::Mul(hn::LoadU(d, x + i), f)), d, out + i);
      },
      [&](int64_t i) { out[i] += x[i] * factor; });
}

void scale_target(float* x, float factor, int64_t n) {
  const D d;
  const auto f = hn::Set(d, factor);
  for_lanes(
      n, [&](int64_t i) { hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, x + i); },
      [&](int64_t i) { x[i] *= factor; });
}

void soft_cap_target(float* x, float cap, int64_t n) {
  const D d;
  const auto c = hn::Set(d, cap);
  const auto capped = [&](auto v) HWY_ATTR { return hn::Mul(c, hn::Tanh(d, hn::Div(v, c))); };
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(capped(hn::LoadU(d, x + i)), d, x + i);
  if (i == n) return;
  float rest[hn::MaxLanes(d)] = {};  // the same arithmetic for the tail
  std::copy_n(x + i, n - i, rest);
  hn::StoreU(capped(hn::LoadU(d, rest)), d, rest);
  std::copy_n(rest, n - i, x + i);
}

void rope_target(float* head, const float* cos, const float* sin, int64_t half, bool interleaved) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  // Products are rounded before they are added, as for the last few pairs: a pair's result must not
  // depend on where vectors end.
  const auto rotate = [&](auto& x, auto& y, int64_t i) {
    const auto c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    const auto a = hn::Sub(hn::Mul(x, c), hn::Mul(y, s));
    y = hn::Add(hn::Mul(x, s), hn::Mul(y, c));
    x = a;
  };
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    if (interleaved) {
      hn::Vec<D> x, y;
      hn::LoadInterleaved2(d, head + 2 * i, x, y);
      rotate(x, y, i);
      hn::StoreInterleaved2(x, y, d, head + 2 * i);
    } else {
      auto x = hn::LoadU(d, head + i), y = hn::LoadU(d, head + half + i);
      rotate(x, y, i);
      hn::StoreU(x, d, head + i);
      hn::StoreU(y, d, head + half + i);
    }
  }
  const int64_t step = interleaved ? 2 : 1, other = interleaved ? 1 : half;
  for (; i < half; ++i) {
    float& a = head[i * step];
    float& b = head[i * step + other];
    const float x = a, y = b;
    a = x * cos[i] - y * sin[i];
    b = x * sin[i] + y * cos[i];
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(add_target);
HWY_EXPORT(add_scaled_target);
HWY_EXPORT(scale_target);
HWY_EXPORT(soft_cap_target);
HWY_EXPORT(rope_target);

void add(const float* x, const float* y, int64_t n, float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(add_target)(x, y, n, out);
}
void add_scaled(const float* x, float factor, int64_t n, float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(add_scaled_target)(x, factor, n, out);
}
void scale(float* x, float factor, int64_t n) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(scale_target)(x, factor, n);
}
void soft_cap(float* x, float cap, int64_t n) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(soft_cap_target)(x, cap, n);
}
void rope(float* head, const float* cos, const float* sin, int64_t half, bool interleaved) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(rope_target)(head, cos, sin, half, interleaved);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
