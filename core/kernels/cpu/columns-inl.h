// Activation columns as the quantised products see them, and the one place where a sub-block's sum
// becomes a float. Included once per target.

#if defined(MLXR_COLUMNS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_COLUMNS_INL_H
#undef MLXR_COLUMNS_INL_H
#else
#define MLXR_COLUMNS_INL_H
#endif

#include "core/kernels/cpu/activations.h"
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Pointers to one column's quantised form, for formats with a scale every kSub columns.
struct Column {
  const int8_t* q;
  const float* scales;  // every 32
  const int32_t* sums;  // every kSub
  const float* fsums;   // the same, scaled
};

template <int kSub>
HWY_INLINE Column column_of(const QuantizedActivations& a, int64_t c) {
  const bool fine = kSub == 16;
  const int64_t subs = a.k / kSub;
  return {a.q.data() + c * a.k, a.scales.data() + c * (a.k / 32),
          (fine ? a.sum16.data() : a.sum32.data()) + c * subs,
          (fine ? a.fsum16.data() : a.fsum32.data()) + c * subs};
}

// acc = fma(float(sum), d * s, acc); with a minimum, acc = fma(m, s * sum(a), acc).
template <class F, class DF>
HWY_INLINE hn::Vec<DF> accumulate(DF df, hn::Vec<DF> acc, hn::Vec<hn::RebindToSigned<DF>> sum,
                                  hn::Vec<DF> d, const float* m, const Column& a, int64_t sub) {
  const auto scale = hn::Mul(d, hn::Set(df, a.scales[sub * F::kSub / 32]));
  acc = hn::MulAdd(hn::ConvertTo(df, sum), scale, acc);
  if constexpr (F::kHasMin) {
    acc = hn::MulAdd(hn::LoadU(df, m), hn::Set(df, a.fsums[sub]), acc);
  }
  return acc;
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
