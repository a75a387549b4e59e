// How each quantised format unpacks, one struct a format. Included once per target.
//
// A format states
//   kElements, kBytes   of its block            kSub      columns that share a scale (32 or 16)
//   kOffset             subtracted from q       kWide     q is an 8-bit value, else at most 127
//   kHasMin             a minimum is added      kSubs     sub-blocks a block
// and has, where the target has vectors,
//   load32(block, j)    q of elements 32j.. of a block, bytes in element order (signed where kWide
//                       and the target has no VNNI, else unsigned)
//   scales8(w, row, b, d, m)   d[s][r], m[s][r] of sub-block s of block b of rows row .. row + 7:
//                              w = d * (q - kOffset) + m
// Adding a format is one struct here, one line in visit_format below, and its table entry.

#if defined(MLXR_ROW_FORMATS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_ROW_FORMATS_INL_H
#undef MLXR_ROW_FORMATS_INL_H
#else
#define MLXR_ROW_FORMATS_INL_H
#endif

#include <cstddef>
#include <cstring>

#include "core/formats/block_layouts.h"
#include "core/kernels/cpu/dot4-inl.h"
#include "core/kernels/cpu/matrix_ref.h"
#include "core/kernels/cpu/row_dot-inl.h"

#if MLXR_VECTOR_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

HWY_INLINE VU8 load_bytes(const uint8_t* p) { return hn::LoadU(DU8(), p); }
HWY_INLINE VU8 mask32b(VU8 v, uint8_t mask) { return hn::And(v, hn::Set(DU8(), mask)); }
template <int n>
HWY_INLINE VU8 shift_bytes(VU8 v) {  // each byte right by n; callers mask what comes in from above
  return VU8{_mm256_srli_epi16(v.raw, n)};
}
// 16 bytes to 32 nibbles: the low ones first, then the high ones.
HWY_INLINE VU8 split_nibbles(const uint8_t* p) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return mask32b(VU8{_mm256_set_m128i(_mm_srli_epi16(v, 4), v)}, 15);
}
// 32 bits to 32 bytes, each 0 or `value`.
HWY_INLINE VU8 spread_bits(const uint8_t* p, uint8_t value) {
  int32_t bits;
  std::memcpy(&bits, p, 4);
  const __m256i which =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), which);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
  return mask32b(VU8{set}, value);
}
HWY_INLINE void store8(float* out, VF32 v) { hn::StoreU(v, DF32(), out); }
// The 32-bit word at the same place of eight rows. Scales are unpacked in this form, a row a lane:
// transposing them byte by byte took half of a Q4_K product.
HWY_INLINE VI32 gather_words(const uint8_t* p, int64_t stride) {
  const auto at = [p, stride](int r) {
    int32_t word;
    std::memcpy(&word, p + r * stride, 4);
    return word;
  };
  return VI32{_mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))};
}
HWY_INLINE VI32 mask_row_words(VI32 v, uint32_t mask) {
  return hn::And(v, hn::Set(DI32(), static_cast<int32_t>(mask)));
}
template <int n>
HWY_INLINE VI32 shift_words(VI32 v) {
  return VI32{_mm256_srli_epi32(v.raw, n)};
}
// Stores scale * (byte i of each word) for i < 4 to out[i]; bytes are unsigned, or signed.
template <bool is_signed>
HWY_INLINE void store_scaled_bytes(VI32 words, VF32 scale, float (*out)[8]) {
  for (int i = 0; i < 4; ++i) {
    const __m256i top = _mm256_slli_epi32(words.raw, 24 - 8 * i);
    const __m256i byte = is_signed ? _mm256_srai_epi32(top, 24) : _mm256_srli_epi32(top, 24);
    store8(out[i], hn::Mul(scale, VF32{_mm256_cvtepi32_ps(byte)}));
  }
}

// A GGUF format, whose scales lie inside its blocks: Scales::scales8(block, row_stride, d, m).
template <class Scales>
struct InBlock : Scales {
  static HWY_INLINE void scales8(const MatrixRef& w, int64_t row, int64_t b, float (*d)[8],
                                 float (*m)[8]) {
    Scales::scales8(w.data + row * w.row_stride + b * Scales::kBytes, w.row_stride, d, m);
  }
};

template <class Block, int sub, int offset, int max, bool has_min>
struct FormatBase {
  static constexpr int kElements = Block::kElements;
  static constexpr int kBytes = sizeof(Block);
  static constexpr int kSub = sub;
  static constexpr int kSubs = kElements / sub;
  static constexpr int kOffset = offset;
  static constexpr bool kWide = max > 127;
  static constexpr bool kHasMin = has_min;
  using DotKind = Dot<max, (max > 127)>;
};

// Formats of 32 columns with one scale, and perhaps one minimum, at fixed places.
template <class Block>
HWY_INLINE void scales_d(const uint8_t* block, int64_t stride, float (*d)[8]) {
  store8(d[0], gather_f16(block + offsetof(Block, d), stride));
}
template <class Block>
HWY_INLINE void scales_dm(const uint8_t* block, int64_t stride, float (*d)[8], float (*m)[8]) {
  scales_d<Block>(block, stride, d);
  store8(m[0], gather_f16(block + offsetof(Block, m), stride));
}

struct FormatQ4_0 : FormatBase<BlockQ4_0, 32, 8, 15, false> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    return split_nibbles(b + offsetof(BlockQ4_0, qs));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*)[8]) {
    scales_d<BlockQ4_0>(b, s, d);
  }
};

struct FormatQ4_1 : FormatBase<BlockQ4_1, 32, 0, 15, true> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    return split_nibbles(b + offsetof(BlockQ4_1, qs));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
    scales_dm<BlockQ4_1>(b, s, d, m);
  }
};

struct FormatQ5_0 : FormatBase<BlockQ5_0, 32, 16, 31, false> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    return hn::Or(split_nibbles(b + offsetof(BlockQ5_0, qs)),
                  spread_bits(b + offsetof(BlockQ5_0, qh), 16));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*)[8]) {
    scales_d<BlockQ5_0>(b, s, d);
  }
};

struct FormatQ5_1 : FormatBase<BlockQ5_1, 32, 0, 31, true> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    return hn::Or(split_nibbles(b + offsetof(BlockQ5_1, qs)),
                  spread_bits(b + offsetof(BlockQ5_1, qh), 16));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
    scales_dm<BlockQ5_1>(b, s, d, m);
  }
};

struct FormatQ8_0 : FormatBase<BlockQ8_0, 32, kShift8, 128, false> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    const VU8 q = load_bytes(b + offsetof(BlockQ8_0, qs));
    return kShift8 ? hn::Xor(q, hn::Set(DU8(), uint8_t{128})) : q;
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*)[8]) {
    scales_d<BlockQ8_0>(b, s, d);
  }
};

// Elements 32j.. of the two-bit planes that Q2_K and Q3_K share.
HWY_INLINE VU8 load_crumbs(const uint8_t* qs, int j) {
  const VU8 v = load_bytes(qs + 32 * (j / 4));
  switch (j % 4) {
    case 0:
      return mask32b(v, 3);
    case 1:
      return mask32b(shift_bytes<2>(v), 3);
    case 2:
      return mask32b(shift_bytes<4>(v), 3);
    default:
      return mask32b(shift_bytes<6>(v), 3);
  }
}

struct FormatQ2_K : FormatBase<BlockQ2_K, 16, 0, 3, true> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int j) {
    return load_crumbs(b + offsetof(BlockQ2_K, qs), j);
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
    const VF32 dv = gather_f16(b + offsetof(BlockQ2_K, d), s);
    const VF32 mv = hn::Neg(gather_f16(b + offsetof(BlockQ2_K, dmin), s));
    for (int i = 0; i < 4; ++i) {
      const VI32 packed = gather_words(b + offsetof(BlockQ2_K, scales) + 4 * i, s);
      store_scaled_bytes<false>(mask_row_words(packed, 0x0f0f0f0f), dv, d + 4 * i);
      store_scaled_bytes<false>(mask_row_words(shift_words<4>(packed), 0x0f0f0f0f), mv, m + 4 * i);
    }
  }
};

struct FormatQ3_K : FormatBase<BlockQ3_K, 16, 4, 7, false> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int j) {
    const VU8 low = load_crumbs(b + offsetof(BlockQ3_K, qs), j);
    const VU8 plane = load_bytes(b + offsetof(BlockQ3_K, hmask));
    const VU8 bit = hn::Set(DU8(), static_cast<uint8_t>(1u << j));
    const VU8 set = hn::VecFromMask(DU8(), hn::Eq(hn::And(plane, bit), bit));
    return hn::Or(low, mask32b(set, 4));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*)[8]) {
    const uint8_t* packed = b + offsetof(BlockQ3_K, scales);
    const VI32 low[2] = {gather_words(packed, s), gather_words(packed + 4, s)};
    const VI32 high = gather_words(packed + 8, s);
    // Scales 4i .. 4i + 3: a nibble of word i % 2, and two bits of the third word
    // (unpack_scales_k3).
    const VI32 nibbles[4] = {low[0], low[1], shift_words<4>(low[0]), shift_words<4>(low[1])};
    const VI32 crumbs[4] = {high, shift_words<2>(high), shift_words<4>(high), shift_words<6>(high)};
    const VF32 dv = gather_f16(b + offsetof(BlockQ3_K, d), s);
    for (int i = 0; i < 4; ++i) {
      const VI32 two = VI32{_mm256_slli_epi32(mask_row_words(crumbs[i], 0x03030303).raw, 4)};
      const VI32 six = hn::Or(mask_row_words(nibbles[i], 0x0f0f0f0f), two);
      const VI32 offset{_mm256_sub_epi8(six.raw, _mm256_set1_epi8(32))};
      store_scaled_bytes<true>(offset, dv, d + 4 * i);
    }
  }
};

// The scales of Q4_K and Q5_K, whose headers are alike.
template <class Block>
HWY_INLINE void scales_k4(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
  const uint8_t* packed = b + offsetof(Block, scales);
  const VI32 first = gather_words(packed, s), second = gather_words(packed + 4, s);
  const VI32 third = gather_words(packed + 8, s);
  const auto top_bits = [](VI32 v) { return mask_row_words(shift_words<2>(v), 0x30303030); };
  const VF32 dv = gather_f16(b + offsetof(Block, d), s);
  const VF32 mv = hn::Neg(gather_f16(b + offsetof(Block, dmin), s));
  // As unpack_scales_k4, four bytes and eight rows at a time.
  store_scaled_bytes<false>(mask_row_words(first, 0x3f3f3f3f), dv, d);
  store_scaled_bytes<false>(hn::Or(mask_row_words(third, 0x0f0f0f0f), top_bits(first)), dv, d + 4);
  store_scaled_bytes<false>(mask_row_words(second, 0x3f3f3f3f), mv, m);
  store_scaled_bytes<false>(
      hn::Or(mask_row_words(shift_words<4>(third), 0x0f0f0f0f), top_bits(second)), mv, m + 4);
}

HWY_INLINE VU8 load_nibble_plane(const uint8_t* qs, int j) {
  const VU8 v = load_bytes(qs + 32 * (j / 2));
  return mask32b(j % 2 ? shift_bytes<4>(v) : v, 15);
}

struct FormatQ4_K : FormatBase<BlockQ4_K, 32, 0, 15, true> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int j) {
    return load_nibble_plane(b + offsetof(BlockQ4_K, qs), j);
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
    scales_k4<BlockQ4_K>(b, s, d, m);
  }
};

struct FormatQ5_K : FormatBase<BlockQ5_K, 32, 0, 31, true> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int j) {
    const VU8 low = load_nibble_plane(b + offsetof(BlockQ5_K, qs), j);
    const VU8 bit = hn::Set(DU8(), static_cast<uint8_t>(1u << j));
    const VU8 plane = load_bytes(b + offsetof(BlockQ5_K, qh));
    const VU8 set = hn::VecFromMask(DU8(), hn::Eq(hn::And(plane, bit), bit));
    return hn::Or(low, mask32b(set, 16));
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*m)[8]) {
    scales_k4<BlockQ5_K>(b, s, d, m);
  }
};

struct FormatQ6_K : FormatBase<BlockQ6_K, 16, 32, 63, false> {
  static HWY_INLINE VU8 load32(const uint8_t* b, int j) {
    const int h = j / 4, part = j % 4;
    const VU8 low = load_bytes(b + offsetof(BlockQ6_K, ql) + 64 * h + 32 * (part % 2));
    const VU8 nibble = mask32b(part / 2 ? shift_bytes<4>(low) : low, 15);
    const VU8 high = load_crumbs(b + offsetof(BlockQ6_K, qh) + 32 * h, part);
    return hn::Or(nibble, VU8{_mm256_slli_epi16(high.raw, 4)});
  }
  static HWY_INLINE void scales8(const uint8_t* b, int64_t s, float (*d)[8], float (*)[8]) {
    const VF32 dv = gather_f16(b + offsetof(BlockQ6_K, d), s);
    for (int i = 0; i < 4; ++i) {
      const VI32 packed = gather_words(b + offsetof(BlockQ6_K, scales) + 4 * i, s);
      store_scaled_bytes<true>(packed, dv, d + 4 * i);
    }
  }
};

// The value at the same place of eight rows of MLX's scales or biases, as float lanes.
HWY_INLINE VF32 gather_scales(const uint8_t* p, int64_t stride, QuantFormat format) {
  if (format == QuantFormat::kF16) return gather_f16(p, stride);
  alignas(32) uint32_t bits[8];
  for (int r = 0; r < 8; ++r) {
    if (format == QuantFormat::kBF16) {
      uint16_t half;
      std::memcpy(&half, p + r * stride, 2);
      bits[r] = static_cast<uint32_t>(half) << 16;
    } else {
      std::memcpy(&bits[r], p + r * stride, 4);
    }
  }
  return VF32{_mm256_castsi256_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(bits)))};
}

// MLX affine, `bits` each, packed least significant first: 8 elements are `bits` whole bytes.
template <int bits>
struct FormatAffine {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 4 * bits;
  static constexpr int kSub = 32;
  static constexpr int kSubs = 1;
  // Without VNNI the eight-bit q is shifted to a signed byte; the sum is put right exactly.
  static constexpr int kOffset = bits == 8 && !MLXR_VNNI ? -128 : 0;
  static constexpr bool kWide = bits == 8;
  static constexpr bool kHasMin = true;
  using DotKind = Dot<(bits == 8 ? 128 : (1 << bits) - 1), bits == 8>;

  static HWY_INLINE VU8 load32(const uint8_t* b, int) {
    if constexpr (bits == 8) {
      const VU8 q = load_bytes(b);
      return kOffset ? hn::Xor(q, hn::Set(DU8(), uint8_t{128})) : q;
    } else if constexpr (bits == 4) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
      const __m128i low = _mm_and_si128(v, _mm_set1_epi8(15));
      const __m128i high = _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15));
      return VU8{_mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high))};
    } else {
      constexpr uint64_t kLow = 0x0101010101010101 * ((1u << bits) - 1);
      alignas(32) uint64_t words[4];
      for (int i = 0; i < 4; ++i) {
        uint64_t packed = 0;
        std::memcpy(&packed, b + i * bits, bits);
        words[i] = _pdep_u64(packed, kLow);
      }
      return load_bytes(reinterpret_cast<const uint8_t*>(words));
    }
  }
  static HWY_INLINE void scales8(const MatrixRef& w, int64_t row, int64_t b, float (*d)[8],
                                 float (*m)[8]) {
    const int64_t width = w.scale_format == QuantFormat::kF32 ? 4 : 2;
    const int64_t stride = w.cols / w.group * width;
    const int64_t at = row * stride + b * 32 / w.group * width;
    store8(d[0], gather_scales(w.scales + at, stride, w.scale_format));
    store8(m[0], gather_scales(w.biases + at, stride, w.scale_format));
  }
};

// Calls visit(Format{}) for the format of `w`.
template <class Visit>
HWY_INLINE void visit_format(const MatrixRef& w, Visit visit) {
  switch (w.format) {
    case QuantFormat::kQ4_0:
      return visit(InBlock<FormatQ4_0>());
    case QuantFormat::kQ4_1:
      return visit(InBlock<FormatQ4_1>());
    case QuantFormat::kQ5_0:
      return visit(InBlock<FormatQ5_0>());
    case QuantFormat::kQ5_1:
      return visit(InBlock<FormatQ5_1>());
    case QuantFormat::kQ8_0:
      return visit(InBlock<FormatQ8_0>());
    case QuantFormat::kQ2_K:
      return visit(InBlock<FormatQ2_K>());
    case QuantFormat::kQ3_K:
      return visit(InBlock<FormatQ3_K>());
    case QuantFormat::kQ4_K:
      return visit(InBlock<FormatQ4_K>());
    case QuantFormat::kQ5_K:
      return visit(InBlock<FormatQ5_K>());
    case QuantFormat::kQ6_K:
      return visit(InBlock<FormatQ6_K>());
    case QuantFormat::kMlxAffine:
      switch (w.bits) {
        case 2:
          return visit(FormatAffine<2>());
        case 3:
          return visit(FormatAffine<3>());
        case 4:
          return visit(FormatAffine<4>());
        case 5:
          return visit(FormatAffine<5>());
        case 6:
          return visit(FormatAffine<6>());
        default:
          return visit(FormatAffine<8>());
      }
    default:
      return;  // float formats have kernels of their own
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_VECTOR_PATH
#endif  // include guard
