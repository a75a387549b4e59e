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

// One tile of columns (activations.h), for formats with a scale every kSub columns of weights.
struct Columns {
  const int8_t* q;
  const float* scales;  // every 32
  const int32_t* sums;  // every kSub
  const float* fsums;   // the same, scaled
};

// The tile that begins at column `first`.
template <int kSub>
HWY_INLINE Columns tile_at(const QuantizedActivations& a, int64_t first) {
  const bool fine = kSub == 16;
  const int64_t subs = first * (a.k / kSub);
  return {a.q.data() + first * a.k, a.scales.data() + first * (a.k / 32),
          (fine ? a.sum16.data() : a.sum32.data()) + subs,
          (fine ? a.fsum16.data() : a.fsum32.data()) + subs};
}

// Sub-block `sub` of column c of a tile of C: acc = fma(float(sum), d * s, acc); with a minimum,
// acc = fma(m, s * sum(a), acc).
template <class F, int C, class DF>
HWY_INLINE hn::Vec<DF> accumulate(DF df, hn::Vec<DF> acc, hn::Vec<hn::RebindToSigned<DF>> sum,
                                  hn::Vec<DF> d, const float* m, const Columns& tile, int64_t sub,
                                  int c) {
  const auto scale = hn::Mul(d, hn::Set(df, tile.scales[sub * F::kSub / 32 * C + c]));
  acc = hn::MulAdd(hn::ConvertTo(df, sum), scale, acc);
  if constexpr (F::kHasMin) {
    acc = hn::MulAdd(hn::LoadU(df, m), hn::Set(df, tile.fsums[sub * C + c]), acc);
  }
  return acc;
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
