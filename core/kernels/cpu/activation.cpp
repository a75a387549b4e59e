#include "core/kernels/cpu/activation.h"

#include <algorithm>

#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/activation.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using DAct = hn::ScalableTag<float>;
using VAct = hn::Vec<DAct>;

// x / (1 + exp(-y)). exp(88) is the last that float32 holds; beyond it the result is 0 to within
// its precision.
HWY_INLINE VAct times_sigmoid(VAct x, VAct y) {
  const DAct d;
  const auto e = hn::Exp(d, hn::Min(hn::Neg(y), hn::Set(d, 88.0f)));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), e));
}

struct Silu {
  HWY_INLINE VAct operator()(VAct x) const { return times_sigmoid(x, x); }
};

// (1 + tanh(u)) / 2 is sigmoid(2 u).
struct GeluTanh {
  HWY_INLINE VAct operator()(VAct x) const {
    const DAct d;
    const auto cubic = hn::Mul(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f));
    const auto twice = hn::Set(d, 1.5957691216057308f);  // 2 sqrt(2 / pi)
    return times_sigmoid(x, hn::Mul(twice, hn::Add(x, cubic)));
  }
};

// Phi(-|x|) by formula 7.1.26 of Abramowitz and Stegun 1964 (error of erf up to 1.5e-7), which
// needs no difference of nearly equal numbers.
struct Gelu {
  HWY_INLINE VAct operator()(VAct x) const {
    const DAct d;
    const auto z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678118654752f));
    const auto one = hn::Set(d, 1.0f);
    const auto t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.3275911f), one));
    auto p = hn::Set(d, 1.061405429f / 2);
    for (float a : {-1.453152027f / 2, 1.421413741f / 2, -0.284496736f / 2, 0.254829592f / 2}) {
      p = hn::MulAdd(p, t, hn::Set(d, a));
    }
    const auto tail = hn::Mul(hn::Mul(p, t), hn::Exp(d, hn::Neg(hn::Mul(z, z))));
    return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail)));
  }
};

struct Relu {
  HWY_INLINE VAct operator()(VAct x) const {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(DAct())), x);  // a NaN stays one
  }
};

template <class F>
HWY_INLINE void apply(const F& f, float* x, const float* up, int64_t n) {
  const DAct d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto step = [&](const float* from, const float* times, float* to) HWY_ATTR {
    const auto y = f(hn::LoadU(d, from));
    hn::StoreU(times == nullptr ? y : hn::Mul(y, hn::LoadU(d, times)), d, to);
  };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) step(x + i, up == nullptr ? nullptr : up + i, x + i);
  if (i == n) return;
  // The same arithmetic for the tail: a value must not depend on where a tile ends.
  float rest[hn::MaxLanes(d)] = {}, times[hn::MaxLanes(d)] = {};
  std::copy_n(x + i, n - i, rest);
  if (up != nullptr) std::copy_n(up + i, n - i, times);
  step(rest, up == nullptr ? nullptr : times, rest);
  std::copy_n(rest, n - i, x + i);
}

// `up` may be null.
void activate_target(Activation f, float* x, const float* up, int64_t n) {
  switch (f) {
    case Activation::kSilu:
      return apply(Silu(), x, up, n);
    case Activation::kGelu:
      return apply(Gelu(), x, up, n);
    case Activation::kGeluTanh:
      return apply(GeluTanh(), x, up, n);
    case Activation::kRelu:
      return apply(Relu(), x, up, n);
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(activate_target);

void activate(Activation f, float* x, int64_t n) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(activate_target)(f, x, nullptr, n);
}

void activate_gated(Activation f, float* gate, const float* up, int64_t n) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(activate_target)(f, gate, up, n);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
