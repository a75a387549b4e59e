// How each format unpacks from the interleaved layout (packed_layout.h), one struct a format.
// Included once per target.
//
// A format states its layout, and
//   DotKind     the range and sign of q (dot4-inl.h)
//   kManySteps  the layout's span is several kSpan long
//   kSub        columns that share a scale: 32 or 16
//   kOffset     subtracted from q      kHasMin    a minimum is added
// and has
//   word(chunk, g, p)              q of word g of part p of a chunk, a byte each
//   scales(w, head, body, p, d, m) d[16 s + lane], m[16 s + lane] of every sub-block s of a span,
//                                  of the rows of part p: w = d * (q - kOffset) + m
// Adding a format is one struct here, or in packed_tables-inl.h if its q are indices of a table,
// one line in visit_packed (there), its layout in packed_layout.h and its bits in pack.cpp.

#if defined(MLXR_PACKED_FORMATS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_PACKED_FORMATS_INL_H
#undef MLXR_PACKED_FORMATS_INL_H
#else
#define MLXR_PACKED_FORMATS_INL_H
#endif

#include "core/kernels/cpu/dot4-inl.h"
#include "core/kernels/cpu/float16-inl.h"
#include "core/kernels/cpu/packed_layout.h"

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

HWY_INLINE VB load_vector(const uint8_t* p) { return hn::LoadU(DB(), p); }
HWY_INLINE VB mask8(VB v, uint8_t mask) { return hn::And(v, hn::Set(DB(), mask)); }
// Each byte moved by n bits; callers mask what comes in from the neighbour.
template <int n>
HWY_INLINE VB right8(VB v) {
  const hn::Repartition<uint16_t, DB> d16;
  return hn::BitCast(DB(), hn::ShiftRight<n>(hn::BitCast(d16, v)));
}
template <int n>
HWY_INLINE VB left8(VB v) {
  const hn::Repartition<uint16_t, DB> d16;
  return hn::BitCast(DB(), hn::ShiftLeft<n>(hn::BitCast(d16, v)));
}

// ---- Planes ----

HWY_INLINE VB nibble_word(const uint8_t* plane, int g, int p) {
  const VB v = load_vector(plane + 64 * (g / 2) + kVecBytes * p);
  return mask8(g % 2 ? right8<4>(v) : v, 15);
}
// Two bits of each byte of word g, moved to bit `to` (0 or 4).
template <int to>
HWY_INLINE VB crumb_word(const uint8_t* plane, int g, int p) {
  const VB v = load_vector(plane + 64 * (g / 4) + kVecBytes * p);
  constexpr uint8_t mask = 3 << to;
  switch (g % 4) {
    case 0:
      return mask8(left8<to>(v), mask);
    case 1:
      return mask8(to == 4 ? left8<2>(v) : right8<2>(v), mask);
    case 2:
      return mask8(to == 4 ? v : right8<4>(v), mask);
    default:
      return mask8(to == 4 ? right8<2>(v) : right8<6>(v), mask);
  }
}
// The bit of each byte of word g, moved to bit `to` (2 or 4).
template <int to>
HWY_INLINE VB bit_word(const uint8_t* plane, int g, int p) {
  const VB v = load_vector(plane + kVecBytes * p);
  constexpr uint8_t mask = 1 << to;
  switch (g - to) {
    case -4:
      return mask8(left8<4>(v), mask);
    case -3:
      return mask8(left8<3>(v), mask);
    case -2:
      return mask8(left8<2>(v), mask);
    case -1:
      return mask8(left8<1>(v), mask);
    case 0:
      return mask8(v, mask);
    case 1:
      return mask8(right8<1>(v), mask);
    case 2:
      return mask8(right8<2>(v), mask);
    case 3:
      return mask8(right8<3>(v), mask);
    case 4:
      return mask8(right8<4>(v), mask);
    default:
      return mask8(right8<5>(v), mask);
  }
}

// q of `bits` bits as packed_layout.h lays them.
template <int bits>
HWY_INLINE VB plane_word(const uint8_t* chunk, int g, int p) {
  if constexpr (bits == 8) {
    return load_vector(chunk + 64 * g + kVecBytes * p);
  } else if constexpr (bits == 4) {
    return nibble_word(chunk, g, p);
  } else if constexpr (bits == 5) {
    return hn::Or(nibble_word(chunk, g, p), bit_word<4>(chunk + 256, g, p));
  } else if constexpr (bits == 6) {
    return hn::Or(nibble_word(chunk, g, p), crumb_word<4>(chunk + 256, g, p));
  } else if constexpr (bits == 2) {
    return crumb_word<0>(chunk, g, p);
  } else {
    static_assert(bits == 3);
    return hn::Or(crumb_word<0>(chunk, g, p), bit_word<2>(chunk + 128, g, p));
  }
}

// ---- Scales ----

HWY_INLINE VF load_f16(const uint8_t* head, int p) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  const auto* from = reinterpret_cast<const hwy::float16_t*>(head) + kLanes * p;
  return promote_f16(DF(), hn::LoadU(d16, from));
}
HWY_INLINE VI load_words(const uint8_t* prefix, int i, int p) {
  return hn::BitCast(DI(), load_vector(prefix + 64 * i + kVecBytes * p));
}
HWY_INLINE VI mask_bytes(VI v, uint32_t mask) {
  return hn::And(v, hn::Set(DI(), static_cast<int32_t>(mask)));
}
template <int n>
HWY_INLINE VI right_bytes(VI v) {
  const hn::RebindToUnsigned<DI> du;
  return hn::BitCast(DI(), hn::ShiftRight<n>(hn::BitCast(du, v)));
}
using SubScales = float*;  // [sub-block][16]
HWY_INLINE void store_scale(VF v, float* out) { hn::StoreU(v, DF(), out); }

// out[i] = scale * (byte i of each word), i < 4; bytes are unsigned, or signed.
template <bool is_signed>
HWY_INLINE void store_scaled_bytes(VI words, VF scale, SubScales out) {
  const auto put = [&](int i, VI top) HWY_ATTR {
    const VI byte = is_signed ? hn::ShiftRight<24>(top) : right_bytes<24>(top);
    store_scale(hn::Mul(scale, hn::ConvertTo(DF(), byte)), out + kGroupRows * i);
  };
  put(0, hn::ShiftLeft<24>(words));
  put(1, hn::ShiftLeft<16>(words));
  put(2, hn::ShiftLeft<8>(words));
  put(3, words);
}

// ---- Formats ----

template <QuantFormat format, int sub, int offset, bool has_min, int max, bool wide>
struct PackedBase {
  static constexpr PackedLayout kLayout = packed_layout(format);
  static constexpr int kBits = kLayout.bits;
  static constexpr int kSpan = kLayout.span;
  static constexpr int kPrefix = kLayout.prefix;
  static constexpr bool kManySteps = false;
  static constexpr int kSub = sub;
  static constexpr int kOffset = offset;
  static constexpr bool kHasMin = has_min;
  using DotKind = Dot<max, wide>;
  static HWY_INLINE VB word(const uint8_t* chunk, int g, int p) {
    return plane_word<kBits>(chunk, g, p);
  }
};

// One float16 scale, perhaps a float16 minimum, every 32 columns.
template <QuantFormat format, int offset, bool has_min, int max>
struct PackedSimple : PackedBase<format, 32, offset, has_min, max, false> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales m) {
    store_scale(load_f16(head, p), d);
    if constexpr (has_min) store_scale(load_f16(head + 32, p), m);
  }
};
using PackedQ4_0 = PackedSimple<QuantFormat::kQ4_0, 8, false, 15>;
using PackedQ4_1 = PackedSimple<QuantFormat::kQ4_1, 0, true, 15>;
using PackedQ5_0 = PackedSimple<QuantFormat::kQ5_0, 16, false, 31>;
using PackedQ5_1 = PackedSimple<QuantFormat::kQ5_1, 0, true, 31>;

struct PackedQ8_0 : PackedBase<QuantFormat::kQ8_0, 32, kShift8, false, 128, true> {
  static HWY_INLINE VB word(const uint8_t* chunk, int g, int p) {
    const VB q = plane_word<8>(chunk, g, p);
    return kShift8 ? hn::Xor(q, hn::Set(DB(), uint8_t{128})) : q;
  }
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales) {
    store_scale(load_f16(head, p), d);
  }
};

// One scale every 256 columns, which are walked as spans of 32.
struct PackedQ8_K : PackedQ8_0 {
  static constexpr bool kManySteps = true;
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales) {
    store_scale(hn::BitCast(DF(), load_vector(head + kVecBytes * p)), d);
  }
};
struct PackedTQ : PackedBase<QuantFormat::kTQ2_0, 32, 1, false, 3, false> {
  static constexpr int kSpan = 32;
  static constexpr bool kManySteps = true;
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales) {
    store_scale(load_f16(head, p), d);
  }
};

struct PackedQ2_K : PackedBase<QuantFormat::kQ2_K, 16, 0, true, 3, false> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t* body, int p,
                                SubScales d, SubScales m) {
    const VF dv = load_f16(head, p), mv = hn::Neg(load_f16(head + 32, p));
    for (int i = 0; i < 4; ++i) {
      const VI packed = load_words(body, i, p);
      store_scaled_bytes<false>(mask_bytes(packed, 0x0f0f0f0f), dv, d + 4 * i * kGroupRows);
      store_scaled_bytes<false>(mask_bytes(right_bytes<4>(packed), 0x0f0f0f0f), mv,
                                m + 4 * i * kGroupRows);
    }
  }
};

struct PackedQ3_K : PackedBase<QuantFormat::kQ3_K, 16, 4, false, 7, false> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t* body, int p,
                                SubScales d, SubScales) {
    const VI low[2] = {load_words(body, 0, p), load_words(body, 1, p)};
    const VI high = load_words(body, 2, p);
    // Scales 4i .. 4i + 3: a nibble of word i % 2, and two bits of the third word
    // (unpack_scales_k3).
    const VI nibbles[4] = {low[0], low[1], right_bytes<4>(low[0]), right_bytes<4>(low[1])};
    const VI crumbs[4] = {high, right_bytes<2>(high), right_bytes<4>(high), right_bytes<6>(high)};
    const VF dv = load_f16(head, p);
    for (int i = 0; i < 4; ++i) {
      const VI two = hn::ShiftLeft<4>(mask_bytes(crumbs[i], 0x03030303));
      const VB six = hn::BitCast(DB(), hn::Or(mask_bytes(nibbles[i], 0x0f0f0f0f), two));
      const VB offset = hn::Sub(six, hn::Set(DB(), uint8_t{32}));
      store_scaled_bytes<true>(hn::BitCast(DI(), offset), dv, d + 4 * i * kGroupRows);
    }
  }
};

// Q4_K and Q5_K, whose scales are alike.
template <QuantFormat format, int max>
struct PackedK4 : PackedBase<format, 32, 0, true, max, false> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t* body, int p,
                                SubScales d, SubScales m) {
    const VI first = load_words(body, 0, p), second = load_words(body, 1, p);
    const VI third = load_words(body, 2, p);
    const auto top_bits = [](VI v) HWY_ATTR { return mask_bytes(right_bytes<2>(v), 0x30303030); };
    const VF dv = load_f16(head, p), mv = hn::Neg(load_f16(head + 32, p));
    // As unpack_scales_k4, four bytes and a vector of rows at a time.
    const VI low = mask_bytes(third, 0x0f0f0f0f),
             high = mask_bytes(right_bytes<4>(third), 0x0f0f0f0f);
    store_scaled_bytes<false>(mask_bytes(first, 0x3f3f3f3f), dv, d);
    store_scaled_bytes<false>(hn::Or(low, top_bits(first)), dv, d + 4 * kGroupRows);
    store_scaled_bytes<false>(mask_bytes(second, 0x3f3f3f3f), mv, m);
    store_scaled_bytes<false>(hn::Or(high, top_bits(second)), mv, m + 4 * kGroupRows);
  }
};
using PackedQ4_K = PackedK4<QuantFormat::kQ4_K, 15>;
using PackedQ5_K = PackedK4<QuantFormat::kQ5_K, 31>;

struct PackedQ6_K : PackedBase<QuantFormat::kQ6_K, 16, 32, false, 63, false> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t* body, int p,
                                SubScales d, SubScales) {
    const VF dv = load_f16(head, p);
    for (int i = 0; i < 4; ++i)
      store_scaled_bytes<true>(load_words(body, i, p), dv, d + 4 * i * kGroupRows);
  }
};

// MLX affine: a scale and a bias a group. A group is walked as spans of 32 columns.
template <int bits>
struct PackedAffine {
  static constexpr int kBits = bits;
  static constexpr int kSpan = 32;
  static constexpr int kPrefix = 0;
  static constexpr bool kManySteps = true;
  static constexpr int kSub = 32;
  // Eight-bit q are unsigned: without VNNI they are shifted to signed bytes, and the sum put right.
  static constexpr int kOffset = bits == 8 && !MLXR_VNNI ? -128 : 0;
  static constexpr bool kHasMin = true;
  using DotKind = Dot<(bits == 8 ? 128 : (1 << bits) - 1), bits == 8>;

  static HWY_INLINE VB word(const uint8_t* chunk, int g, int p) {
    const VB q = plane_word<bits>(chunk, g, p);
    return kOffset ? hn::Xor(q, hn::Set(DB(), uint8_t{128})) : q;
  }
  static HWY_INLINE VF load_scale(const MatrixRef& w, const uint8_t* head, int p) {
    if (w.scale_format == QuantFormat::kF16) return load_f16(head, p);
    if (w.scale_format == QuantFormat::kF32) {
      return hn::BitCast(DF(), load_vector(head + kVecBytes * p));
    }
    const hn::Rebind<uint16_t, DI> d16;
    const auto* from = reinterpret_cast<const uint16_t*>(head) + kLanes * p;
    return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DI(), hn::LoadU(d16, from))));
  }
  static HWY_INLINE void scales(const MatrixRef& w, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales m) {
    const int64_t half = w.scale_format == QuantFormat::kF32 ? 64 : 32;
    store_scale(load_scale(w, head, p), d);
    store_scale(load_scale(w, head + half, p), m);
  }
};

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
