// Int8 dot products and small transposes for 256-bit and 512-bit x86 vectors: the few operations
// that Highway 1.0 does not offer. Included once per target; empty where the target has no vector
// path (rows are then decoded to float32 first).

#if defined(MLXR_ROW_DOT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_ROW_DOT_INL_H
#undef MLXR_ROW_DOT_INL_H
#else
#define MLXR_ROW_DOT_INL_H
#endif

#include "core/kernels/cpu/target-inl.h"

#if MLXR_VECTOR_PATH
#include <immintrin.h>

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DU8 = hn::FixedTag<uint8_t, 32>;
using DI32 = hn::FixedTag<int32_t, 8>;
using DF32 = hn::FixedTag<float, 8>;
using VU8 = hn::Vec<DU8>;
using VI32 = hn::Vec<DI32>;
using VF32 = hn::Vec<DF32>;

// acc[i] + sum over j < 4 of w[4i + j] * a[4i + j]; w unsigned, at most 127; a in [-127, 127].
HWY_INLINE VI32 dot_narrow(VI32 acc, VU8 w, VI32 a) {
#if MLXR_VNNI
  return VI32{_mm256_dpbusd_epi32(acc.raw, w.raw, a.raw)};
#else
  const __m256i pairs = _mm256_maddubs_epi16(w.raw, a.raw);
  return VI32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
#endif
}

// The same for the 8-bit formats: w is unsigned, shifted by kShift8, with VNNI and signed
// without.
HWY_INLINE VI32 dot_wide(VI32 acc, VU8 w, VI32 a) {
#if MLXR_VNNI
  return dot_narrow(acc, w, a);
#else
  const VU8 magnitude{_mm256_abs_epi8(w.raw)};
  return dot_narrow(acc, magnitude, VI32{_mm256_sign_epi8(a.raw, w.raw)});
#endif
}

// Lane r of the result is the sum of the four low (first) and of the four high lanes of v[r].
struct HalfSums {
  VI32 low, high;
};
HWY_INLINE HalfSums reduce_halves(const VI32 v[8]) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0].raw, v[1].raw),
                                      _mm256_hadd_epi32(v[2].raw, v[3].raw));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4].raw, v[5].raw),
                                      _mm256_hadd_epi32(v[6].raw, v[7].raw));
  return {VI32{_mm256_permute2x128_si256(a, b, 0x20)}, VI32{_mm256_permute2x128_si256(a, b, 0x31)}};
}

// Eight rows of eight 32-bit words, transposed in place.
HWY_INLINE void transpose8(VU8 rows[8]) {
  __m256i t[8], u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_epi32(rows[2 * i].raw, rows[2 * i + 1].raw);
    t[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i].raw, rows[2 * i + 1].raw);
  }
  for (int h = 0; h < 2; ++h) {
    u[4 * h + 0] = _mm256_unpacklo_epi64(t[4 * h], t[4 * h + 2]);
    u[4 * h + 1] = _mm256_unpackhi_epi64(t[4 * h], t[4 * h + 2]);
    u[4 * h + 2] = _mm256_unpacklo_epi64(t[4 * h + 1], t[4 * h + 3]);
    u[4 * h + 3] = _mm256_unpackhi_epi64(t[4 * h + 1], t[4 * h + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = VU8{_mm256_permute2x128_si256(u[i], u[i + 4], 0x20)};
    rows[i + 4] = VU8{_mm256_permute2x128_si256(u[i], u[i + 4], 0x31)};
  }
}

// The float16 at the same place of eight rows, as float32 lanes.
HWY_INLINE VF32 gather_f16(const uint8_t* p, int64_t stride) {
  const auto at = [p, stride](int r) {
    int16_t bits;
    __builtin_memcpy(&bits, p + r * stride, 2);
    return bits;
  };
  return VF32{
      _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)))};
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_VECTOR_PATH
#endif  // include guard
