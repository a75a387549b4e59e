#include "core/kernels/cpu/elementwise.h"

#include <cmath>

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

void rms_norm_target(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const D d;
  auto squares = hn::Zero(d);
  float rest = 0;
  for_lanes(
      n,
      [&](int64_t i) {
        const auto v = hn::LoadU(d, x + i);
        squares = hn::MulAdd(v, v, squares);
      },
      [&](int64_t i) { rest += x[i] * x[i]; });
  const float sum = hn::GetLane(hn::SumOfLanes(d, squares)) + rest;
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  const auto s = hn::Set(d, scale);
  for_lanes(
      n,
      [&](int64_t i) {
        const auto v = hn::Mul(hn::LoadU(d, x + i), s);
        hn::StoreU(hn::Mul(v, hn::LoadU(d, weight + i)), d, out + i);
      },
      [&](int64_t i) { out[i] = x[i] * scale * weight[i]; });
}

void add_target(const float* x, const float* y, int64_t n, float* out) {
  const D d;
  for_lanes(
      n,
      [&](int64_t i) { hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, out + i); },
      [&](int64_t i) { out[i] = x[i] + y[i]; });
}

void swiglu_target(float* gate, const float* up, int64_t n) {
  const D d;
  const auto one = hn::Set(d, 1.0f);
  // exp(88) is the last that float32 holds; beyond it silu(x) is 0 to within its precision.
  const auto most = hn::Set(d, 88.0f);
  const auto silu_up = [&](auto g, auto u) {
    const auto e = hn::Exp(d, hn::Min(hn::Neg(g), most));
    return hn::Mul(hn::Div(g, hn::Add(one, e)), u);
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(silu_up(hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, gate + i);
  }
  if (i < n) {  // the same arithmetic for the tail: a value must not depend on where a tile ends
    const auto count = static_cast<size_t>(n - i);
    HWY_ALIGN float g[HWY_MAX_BYTES / 4] = {}, u[HWY_MAX_BYTES / 4] = {};
    for (size_t j = 0; j < count; ++j) {
      g[j] = gate[i + static_cast<int64_t>(j)];
      u[j] = up[i + static_cast<int64_t>(j)];
    }
    hn::StoreU(silu_up(hn::LoadU(d, g), hn::LoadU(d, u)), d, g);
    for (size_t j = 0; j < count; ++j) gate[i + static_cast<int64_t>(j)] = g[j];
  }
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

HWY_EXPORT(rms_norm_target);
HWY_EXPORT(add_target);
HWY_EXPORT(swiglu_target);
HWY_EXPORT(rope_target);

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(rms_norm_target)(x, weight, eps, n, out);
}
void add(const float* x, const float* y, int64_t n, float* out) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(add_target)(x, y, n, out);
}
void swiglu(float* gate, const float* up, int64_t n) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(swiglu_target)(gate, up, n);
}
void rope(float* head, const float* cos, const float* sin, int64_t half, bool interleaved) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(rope_target)(head, cos, sin, half, interleaved);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
