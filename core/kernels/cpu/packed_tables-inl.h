// Formats whose q are indices of a table of up to sixteen values (packed_formats-inl.h says what a
// format is): those with values of their own, and those whose rows index a codebook of groups,
// which pack.cpp takes apart. Included once per target.
//
// Values are small integers v, looked up as v + kOffset: bytes without a sign, which every target
// multiplies fastest. Only IQ4's span more than 127.

#if defined(MLXR_PACKED_TABLES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_PACKED_TABLES_INL_H
#undef MLXR_PACKED_TABLES_INL_H
#else
#define MLXR_PACKED_TABLES_INL_H
#endif

#include <array>

#include "core/formats/block_layouts.h"
#include "core/kernels/cpu/packed_formats-inl.h"

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

struct alignas(16) Table16 {
  uint8_t at[16];
};
template <size_t n>
constexpr Table16 shifted_table(const int8_t (&values)[n], int offset) {
  Table16 t{};
  for (size_t i = 0; i < n; ++i) t.at[i] = static_cast<uint8_t>(values[i] + offset);
  return t;
}
// Magnitudes, then the same negated.
template <size_t n>
constexpr Table16 signed_table(const int8_t (&magnitudes)[n], int offset) {
  Table16 t{};
  for (size_t i = 0; i < n; ++i) {
    t.at[i] = static_cast<uint8_t>(offset + magnitudes[i]);
    t.at[i + n] = static_cast<uint8_t>(offset - magnitudes[i]);
  }
  return t;
}

inline constexpr Table16 kTableIQ4 = shifted_table(kValuesIQ4, kShift8);
inline constexpr Table16 kTableE2M1 = shifted_table(kValuesE2M1, 12);
// Eight times g + 1/8, then g - 1/8, for g of -1, 0, 1. The fourth of each does not occur.
inline constexpr Table16 kTableIQ1 = shifted_table({-7, 1, 9, 0, -9, -1, 7, 0}, 9);
inline constexpr Table16 kTableIQ2 = signed_table({8, 25, 43, 0}, 43);
inline constexpr Table16 kTableIQ3_XXS = signed_table({4, 12, 20, 28, 36, 44, 52, 62}, 62);
inline constexpr Table16 kTableIQ3_S = signed_table({1, 3, 5, 7, 9, 11, 13, 15}, 15);

template <const Table16& table, QuantFormat format, int sub, int offset, int max, bool wide = false>
struct PackedTable : PackedBase<format, sub, offset, false, max, wide> {
  static HWY_INLINE VB word(const uint8_t* chunk, int g, int p) {
    const VB index = plane_word<packed_layout(format).bits>(chunk, g, p);
    return hn::TableLookupBytes(hn::LoadDup128(DB(), table.at), index);
  }
};

struct PackedIQ4_NL : PackedTable<kTableIQ4, QuantFormat::kIQ4_NL, 32, kShift8, 128, true> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales) {
    store_scale(load_f16(head, p), d);
  }
};

// A float16 scale and a byte a sub-block, signed or not: d * (eighths / 8) * byte, of which the
// first product is exact.
template <class Table, int eighths, bool is_signed = false>
struct PackedByteScales : Table {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t* body, int p,
                                SubScales d, SubScales) {
    const VF dv = hn::Mul(load_f16(head, p), hn::Set(DF(), 0.125f * eighths));
    for (int i = 0; i < Table::kSpan / Table::kSub / 4; ++i) {
      store_scaled_bytes<is_signed>(load_words(body, i, p), dv, d + 4 * i * kGroupRows);
    }
  }
};
using PackedIQ4_XS =
    PackedByteScales<PackedTable<kTableIQ4, QuantFormat::kIQ4_XS, 32, kShift8, 128, true>, 8, true>;
using PackedIQ1_S = PackedByteScales<PackedTable<kTableIQ1, QuantFormat::kIQ1_S, 32, 9, 18>, 1>;
using PackedIQ1_M = PackedByteScales<PackedTable<kTableIQ1, QuantFormat::kIQ1_M, 16, 9, 18>, 1>;
using PackedIQ2_XXS =
    PackedByteScales<PackedTable<kTableIQ2, QuantFormat::kIQ2_XXS, 32, 43, 86>, 1>;
// And IQ2_S, which differs in its codebook alone.
using PackedIQ2_XS = PackedByteScales<PackedTable<kTableIQ2, QuantFormat::kIQ2_XS, 16, 43, 86>, 1>;
using PackedIQ3_XXS =
    PackedByteScales<PackedTable<kTableIQ3_XXS, QuantFormat::kIQ3_XXS, 32, 62, 124>, 2>;
using PackedIQ3_S = PackedByteScales<PackedTable<kTableIQ3_S, QuantFormat::kIQ3_S, 32, 15, 30>, 8>;

// half_of_f8_e8m0: the exponent byte less one, and the two subnormal numbers.
struct PackedMXFP4 : PackedTable<kTableE2M1, QuantFormat::kMXFP4, 32, 12, 24> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t* head, const uint8_t*, int p,
                                SubScales d, SubScales) {
    const DI di;
    const VI e = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, DI>(), head + kLanes * p));
    const VI normal = hn::ShiftLeft<23>(hn::Sub(e, hn::Set(di, 1)));
    const VI small =
        hn::IfThenElse(hn::Eq(e, hn::Zero(di)), hn::Set(di, 0x00200000), hn::Set(di, 0x00400000));
    const VI bits = hn::IfThenElse(hn::Lt(e, hn::Set(di, 2)), small, normal);
    store_scale(hn::BitCast(DF(), bits), d);
  }
};

// Half of an E4M3 number without its sign: its bits in a float's exponent and mantissa are it,
// subnormals too, but for a power of two.
struct PackedNVFP4 : PackedTable<kTableE2M1, QuantFormat::kNVFP4, 16, 12, 24> {
  static HWY_INLINE void scales(const MatrixRef&, const uint8_t*, const uint8_t* body, int p,
                                SubScales d, SubScales) {
    const VI words = load_words(body, 0, p);
    const auto put = [&](int i, VI top) HWY_ATTR {
      const VF tiny = hn::BitCast(DF(), hn::ShiftRight<4>(mask_bytes(top, 0x7f000000)));
      store_scale(hn::Mul(tiny, hn::Set(DF(), 0x1p119f)), d + kGroupRows * i);
    };
    put(0, hn::ShiftLeft<24>(words));
    put(1, hn::ShiftLeft<16>(words));
    put(2, hn::ShiftLeft<8>(words));
    put(3, words);
  }
};

// Calls visit(Format{}) for the format of `w`, which has_packed_form() accepts.
template <class Visit>
HWY_INLINE void visit_packed(const MatrixRef& w, Visit visit) {
  switch (w.format) {
    case QuantFormat::kQ4_0:
      return visit(PackedQ4_0());
    case QuantFormat::kQ4_1:
      return visit(PackedQ4_1());
    case QuantFormat::kQ5_0:
      return visit(PackedQ5_0());
    case QuantFormat::kQ5_1:
      return visit(PackedQ5_1());
    case QuantFormat::kQ8_0:
      return visit(PackedQ8_0());
    case QuantFormat::kQ2_K:
      return visit(PackedQ2_K());
    case QuantFormat::kQ3_K:
      return visit(PackedQ3_K());
    case QuantFormat::kQ4_K:
      return visit(PackedQ4_K());
    case QuantFormat::kQ5_K:
      return visit(PackedQ5_K());
    case QuantFormat::kQ6_K:
      return visit(PackedQ6_K());
    case QuantFormat::kQ8_K:
      return visit(PackedQ8_K());
    case QuantFormat::kIQ1_S:
      return visit(PackedIQ1_S());
    case QuantFormat::kIQ1_M:
      return visit(PackedIQ1_M());
    case QuantFormat::kIQ2_XXS:
      return visit(PackedIQ2_XXS());
    case QuantFormat::kIQ2_XS:
    case QuantFormat::kIQ2_S:
      return visit(PackedIQ2_XS());
    case QuantFormat::kIQ3_XXS:
      return visit(PackedIQ3_XXS());
    case QuantFormat::kIQ3_S:
      return visit(PackedIQ3_S());
    case QuantFormat::kIQ4_NL:
      return visit(PackedIQ4_NL());
    case QuantFormat::kIQ4_XS:
      return visit(PackedIQ4_XS());
    case QuantFormat::kTQ1_0:
    case QuantFormat::kTQ2_0:
      return visit(PackedTQ());
    case QuantFormat::kMXFP4:
      return visit(PackedMXFP4());
    case QuantFormat::kNVFP4:
      return visit(PackedNVFP4());
    default:
      break;
  }
  switch (w.bits) {
    case 2:
      return visit(PackedAffine<2>());
    case 3:
      return visit(PackedAffine<3>());
    case 4:
      return visit(PackedAffine<4>());
    case 5:
      return visit(PackedAffine<5>());
    case 6:
      return visit(PackedAffine<6>());
    default:
      return visit(PackedAffine<8>());
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
