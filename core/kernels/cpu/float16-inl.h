// float16 to float32, in vectors. Included once per target.

#if defined(MLXR_FLOAT16_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_FLOAT16_INL_H
#undef MLXR_FLOAT16_INL_H
#else
#define MLXR_FLOAT16_INL_H
#endif

#include "core/base/float16.h"
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Exact: subnormal numbers, infinities and NaN included. As many halves as `d` has lanes.
template <class D>
HWY_INLINE hn::Vec<D> promote_f16(D d, hn::Vec<hn::Rebind<hwy::float16_t, D>> halves) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  // The emulation takes infinity and NaN for numbers from 65536 on.
  const hn::Rebind<uint16_t, D> d16;
  HWY_ALIGN uint16_t from[hn::MaxLanes(d)];
  HWY_ALIGN float to[hn::MaxLanes(d)];
  hn::Store(hn::BitCast(d16, halves), d16, from);
  for (size_t i = 0; i < hn::Lanes(d); ++i) to[i] = f16_to_f32(from[i]);
  return hn::Load(d, to);
#else
  return hn::PromoteTo(d, halves);
#endif
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
