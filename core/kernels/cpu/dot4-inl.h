// Int8 dot products of four columns at a time, lanes being rows: the few operations that Highway
// 1.0 does not offer, for every target. Included once per target.
//
// A group is sixteen rows; it is kParts native vectors of kLanes rows. A word is four columns of
// every row of a vector, a byte each.

#if defined(MLXR_DOT4_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_DOT4_INL_H
#undef MLXR_DOT4_INL_H
#else
#define MLXR_DOT4_INL_H
#endif

#include <cstdint>
#include <cstring>

#include "core/kernels/cpu/target-inl.h"
#include "core/kernels/cpu/weight_prefetch.h"

#if HWY_ARCH_X86
#include <immintrin.h>
#elif HWY_ARCH_ARM_A64
#include <arm_neon.h>
#endif

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int kVecBytes = HWY_MAX_BYTES < 64 ? HWY_MAX_BYTES : 64;
inline constexpr int kLanes = kVecBytes / 4;
inline constexpr int kParts = 64 / kVecBytes;

using DB = hn::FixedTag<uint8_t, kVecBytes>;
using DI = hn::FixedTag<int32_t, kLanes>;
using DF = hn::FixedTag<float, kLanes>;
using VB = hn::Vec<DB>;
using VI = hn::Vec<DI>;
using VF = hn::Vec<DF>;

// How the weights of 8-bit formats appear in a word. VNNI multiplies unsigned by signed, so there
// they are shifted by 128 and the shift is taken off the sum; elsewhere they stay signed. The sums
// are the same exact integers.
inline constexpr int kShift8 = MLXR_VNNI ? 128 : 0;

// Into the second level of the cache: the first is small, and their turn comes later.
HWY_INLINE void prefetch_lines(const uint8_t* at, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(at + 64 * i, 0, 2);
}

// Four activations in every lane.
HWY_INLINE VI broadcast4(const int8_t* a) {
  int32_t word = 0;
  std::memcpy(&word, a, 4);
  return hn::Set(DI(), word);
}

// What a kernel needs to know of q: kMax, the largest magnitude, and whether a word holds signed
// bytes (shifted by kShift8) or unsigned ones of at most 127.
template <int max, bool wide>
struct Dot {
  static constexpr int kMax = max;
  static constexpr bool kWide = wide;
};
// The kind that stands for all which are computed alike: magnitudes matter to AVX2 alone.
template <class D>
using CommonDot = Dot<D::kWide                                  ? 128
                      : HWY_TARGET != HWY_AVX2 || D::kMax <= 15 ? 15
                                                                : D::kMax,
                      D::kWide>;

#if MLXR_VNNI
template <class D>
HWY_INLINE VI dot4(VI sum, VB w, VI a) {
  return VI{_mm512_dpbusd_epi32(sum.raw, w.raw, a.raw)};
}

#elif HWY_TARGET == HWY_AVX2
// Without VNNI, pairs of products are 16 bits wide, and narrow formats have room to add several
// words before they must be widened: 8 x 2 x 15 x 127 = 30480 < 32768.
template <class D>
inline constexpr int kWordsPerFlush = D::kMax * 2 * 127 * 8 < 32768   ? 8
                                      : D::kMax * 2 * 127 * 4 < 32768 ? 4
                                      : D::kMax * 2 * 127 * 2 < 32768 ? 2
                                                                      : 1;
template <class D>
HWY_INLINE __m256i pairs(VB w, VI a) {
  if constexpr (D::kWide) {  // the sign moves to the activation: |w| <= 128, |a| <= 127
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w.raw), _mm256_sign_epi8(a.raw, w.raw));
  } else {
    return _mm256_maddubs_epi16(w.raw, a.raw);
  }
}
HWY_INLINE VI widen_pairs(VI sum, __m256i p) {
  return VI{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(p, _mm256_set1_epi16(1)))};
}
template <class D>
HWY_INLINE VI dot4(VI sum, VB w, VI a) {
  return widen_pairs(sum, pairs<D>(w, a));
}

#elif HWY_TARGET == HWY_NEON && MLXR_DOTPROD
template <class D>
HWY_INLINE VI dot4(VI sum, VB w, VI a) {
  return VI{vdotq_s32(sum.raw, vreinterpretq_s8_u8(w.raw), vreinterpretq_s8_s32(a.raw))};
}

#elif HWY_TARGET == HWY_NEON
// Two products of bytes fit 16 bits: 2 x 128 x 127 < 32768. Narrow values are below 128: signed and
// unsigned agree.
template <class D>
HWY_INLINE VI dot4(VI sum, VB w, VI a) {
  const int8x16_t x = vreinterpretq_s8_u8(w.raw), y = vreinterpretq_s8_s32(a.raw);
  const int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)), vmull_high_s8(x, y));
  return VI{vpadalq_s16(sum.raw, pairs)};
}

#else
template <class D>
HWY_INLINE VI dot4(VI sum, VB w, VI a) {
  alignas(16) int32_t s[kLanes];
  alignas(16) uint8_t wb[kVecBytes];
  alignas(16) int8_t ab[kVecBytes];
  hn::Store(sum, DI(), s);
  hn::Store(w, DB(), wb);
  hn::Store(hn::BitCast(hn::FixedTag<int8_t, kVecBytes>(), a), hn::FixedTag<int8_t, kVecBytes>(),
            ab);
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < 4; ++j) {  // narrow values are below 128: signed and unsigned agree
      s[i] += int32_t{static_cast<int8_t>(wb[4 * i + j])} * ab[4 * i + j];
    }
  }
  return hn::Load(DI(), s);
}
#endif

// sums[c][p] += the products of `words` words, beginning at word `first`, with the C columns of a
// tile ([word][C][4]; `a` points at word 0). load(g, p) is word g of vector p of P.
#if HWY_TARGET == HWY_AVX2
template <class D, int first, int words, int C, int P, class Load>
HWY_INLINE void dot_words(const Load& load, const int8_t* a, VI (&sums)[C][P]) {
  constexpr int flush = kWordsPerFlush<D> < words ? kWordsPerFlush<D> : words;
  HWY_UNROLL(8)
  for (int g0 = first; g0 < first + words; g0 += flush) {
    __m256i partial[C][P];
    HWY_UNROLL(8)
    for (int g = g0; g < g0 + flush; ++g) {
      VB w[P];
      for (int p = 0; p < P; ++p) w[p] = load(g, p);
      for (int c = 0; c < C; ++c) {
        const VI x = broadcast4(a + 4 * (g * C + c));
        for (int p = 0; p < P; ++p) {
          const __m256i product = pairs<D>(w[p], x);
          partial[c][p] = g == g0 ? product : _mm256_add_epi16(partial[c][p], product);
        }
      }
    }
    for (int c = 0; c < C; ++c) {
      for (int p = 0; p < P; ++p) sums[c][p] = widen_pairs(sums[c][p], partial[c][p]);
    }
  }
}

#elif HWY_TARGET == HWY_NEON && MLXR_I8MM
// An instruction adds to sums of two rows by two columns, eight bytes of each. A column without a
// partner takes dot products.
template <class D, int first, int words, int C, int P, class Load>
HWY_INLINE void dot_words(const Load& load, const int8_t* a, VI (&sums)[C][P]) {
  constexpr int kPairs = C / 2;
  int32x4_t square[kPairs + 1][P][2];  // rows 0 and 1, rows 2 and 3 of a vector; + 1 for C of 1
  for (int c = 0; c < kPairs; ++c) {
    for (int p = 0; p < P; ++p) square[c][p][0] = square[c][p][1] = vdupq_n_s32(0);
  }
  HWY_UNROLL(4)
  for (int g = first; g < first + words; g += 2) {
    const int8_t *x0 = a + 4 * g * C, *x1 = x0 + 4 * C;  // words g and g + 1
    int8x16_t rows[P][2];
    for (int p = 0; p < P; ++p) {
      const VI w0 = hn::BitCast(DI(), load(g, p)), w1 = hn::BitCast(DI(), load(g + 1, p));
      rows[p][0] = vreinterpretq_s8_s32(vzip1q_s32(w0.raw, w1.raw));
      rows[p][1] = vreinterpretq_s8_s32(vzip2q_s32(w0.raw, w1.raw));
      if constexpr (C % 2 != 0) {
        VI& sum = sums[C - 1][p];
        sum = dot4<D>(sum, hn::BitCast(DB(), w0), broadcast4(x0 + 4 * (C - 1)));
        sum = dot4<D>(sum, hn::BitCast(DB(), w1), broadcast4(x1 + 4 * (C - 1)));
      }
    }
    for (int c = 0; c < kPairs; ++c) {
      const int32x2_t y0 = vreinterpret_s32_s8(vld1_s8(x0 + 8 * c));
      const int32x2_t y1 = vreinterpret_s32_s8(vld1_s8(x1 + 8 * c));
      const int8x16_t x = vreinterpretq_s8_s32(vcombine_s32(vzip1_s32(y0, y1), vzip2_s32(y0, y1)));
      for (int p = 0; p < P; ++p) {
        for (int h = 0; h < 2; ++h) square[c][p][h] = vmmlaq_s32(square[c][p][h], rows[p][h], x);
      }
    }
  }
  for (int c = 0; c < kPairs; ++c) {
    for (int p = 0; p < P; ++p) {
      VI &even = sums[2 * c][p], &odd = sums[2 * c + 1][p];
      even.raw = vaddq_s32(even.raw, vuzp1q_s32(square[c][p][0], square[c][p][1]));
      odd.raw = vaddq_s32(odd.raw, vuzp2q_s32(square[c][p][0], square[c][p][1]));
    }
  }
}

#else
template <class D, int first, int words, int C, int P, class Load>
HWY_INLINE void dot_words(const Load& load, const int8_t* a, VI (&sums)[C][P]) {
  HWY_UNROLL(8)
  for (int g = first; g < first + words; ++g) {
    VB w[P];
    for (int p = 0; p < P; ++p) w[p] = load(g, p);
    for (int c = 0; c < C; ++c) {
      const VI x = broadcast4(a + 4 * (g * C + c));
      for (int p = 0; p < P; ++p) sums[c][p] = dot4<D>(sums[c][p], w[p], x);
    }
  }
}
#endif

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
