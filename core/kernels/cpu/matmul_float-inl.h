// Products of float weights (F32, F16, BF16, FP8) with float32 activations, in register tiles of
// rows by columns. Lanes run along k; see the contract in matmul.h. Included once per target.

#if defined(MLXR_MATMUL_FLOAT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_FLOAT_INL_H
#undef MLXR_MATMUL_FLOAT_INL_H
#else
#define MLXR_MATMUL_FLOAT_INL_H
#endif

#include <algorithm>
#include <cstring>

#include "core/kernels/cpu/float16-inl.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DFloat = hn::ScalableTag<float>;
using VFloat = hn::Vec<DFloat>;

inline constexpr int kFloatRows = 4;
// 4 x 6 accumulators, 4 weights and an activation fit 32 registers; 4 x 3 fit 16.
inline constexpr int kFloatColumns = HWY_TARGET == HWY_AVX3 ? 6 : 3;

struct LoadF32 {
  using T = float;
  static HWY_INLINE VFloat load(const T* p) { return hn::LoadU(DFloat(), p); }
};
struct LoadF16 {
  using T = hwy::float16_t;
  static HWY_INLINE VFloat load(const T* p) {
    return promote_f16(DFloat(), hn::LoadU(hn::Rebind<hwy::float16_t, DFloat>(), p));
  }
};
struct LoadBF16 {
  using T = hwy::bfloat16_t;
  static HWY_INLINE VFloat load(const T* p) {
    return hn::PromoteTo(DFloat(), hn::LoadU(hn::Rebind<hwy::bfloat16_t, DFloat>(), p));
  }
};
// The upper byte of a float16.
struct LoadF8E5M2 {
  using T = uint8_t;
  static HWY_INLINE VFloat load(const T* p) {
    const hn::Rebind<uint16_t, DFloat> d16;
    const auto byte = hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, DFloat>(), p));
    const hn::Rebind<hwy::float16_t, DFloat> half;
    return promote_f16(DFloat(), hn::BitCast(half, hn::ShiftLeft<8>(byte)));
  }
};
// In a float16's place, exponent and mantissa are 2^-8 times the number, subnormal ones too. Sign
// extension brings the sign along, and into the exponent's first bit, which only NaN may have:
// there 128 more would carry into it.
struct LoadF8E4M3 {
  using T = uint8_t;
  static HWY_INLINE VFloat load(const T* p) {
    const hn::Rebind<int16_t, DFloat> d16;
    const hn::Rebind<int8_t, DFloat> d8;
    const hn::Rebind<hwy::float16_t, DFloat> half;
    const auto byte = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(p)));
    const auto number = hn::AndNot(hn::Set(d16, int16_t{0x4000}), hn::ShiftLeft<7>(byte));
    const auto carry =
        hn::And(hn::Add(number, hn::Set(d16, int16_t{0x80})), hn::Set(d16, int16_t{0x4000}));
    const auto bits = hn::Or(number, carry);
    return hn::Mul(promote_f16(DFloat(), hn::BitCast(half, bits)), hn::Set(DFloat(), 256.0f));
  }
};

// Calls visit(Load{}) for one of the formats that is_float() accepts.
template <class Visit>
HWY_INLINE void visit_float(QuantFormat format, Visit visit) {
  switch (format) {
    case QuantFormat::kF32:
      return visit(LoadF32());
    case QuantFormat::kF16:
      return visit(LoadF16());
    default:
      return visit(LoadBF16());
  }
}

template <class L, int R, int C>
HWY_NOINLINE void float_tile(const typename L::T* const* w, const float* const* x, int64_t k,
                             float (*out)[kFloatRows]) {
  using T = typename L::T;
  const DFloat df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  VFloat acc[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) acc[r][c] = hn::Zero(df);
  }
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    VFloat weights[R];
    for (int r = 0; r < R; ++r) weights[r] = L::load(w[r] + i);
    for (int c = 0; c < C; ++c) {
      const VFloat v = hn::LoadU(df, x[c] + i);
      for (int r = 0; r < R; ++r) acc[r][c] = hn::MulAdd(weights[r], v, acc[r][c]);
    }
  }
  if (i < k) {  // the tail, padded with zeros
    HWY_ALIGN float tail_x[C][HWY_MAX_BYTES / 4] = {};
    for (int c = 0; c < C; ++c) std::copy(x[c] + i, x[c] + k, tail_x[c]);
    for (int r = 0; r < R; ++r) {
      HWY_ALIGN T tail_w[HWY_MAX_BYTES / sizeof(T)] = {};
      std::memcpy(tail_w, w[r] + i, static_cast<size_t>(k - i) * sizeof(T));
      const VFloat weight = L::load(tail_w);
      for (int c = 0; c < C; ++c) {
        acc[r][c] = hn::MulAdd(weight, hn::LoadU(df, tail_x[c]), acc[r][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) out[c][r] = hn::GetLane(hn::SumOfLanes(df, acc[r][c]));
  }
}

template <class L, int R, int C = kFloatColumns>
HWY_INLINE void float_tile_n(int n, const typename L::T* const* w, const float* const* x, int64_t k,
                             float (*out)[kFloatRows]) {
  if constexpr (C > 0) {
    if (n == C) return float_tile<L, R, C>(w, x, k, out);
    return float_tile_n<L, R, C - 1>(n, w, x, k, out);
  }
}

// Rows [row_begin, row_end), at most kRowTile of them, of data + r * row_stride: they stay in the
// cache while the columns pass.
template <class L>
void float_row_tile(const uint8_t* data, int64_t row_stride, int64_t row_begin, int64_t row_end,
                    const ActivationView& x, float* out, int64_t out_stride) {
  using T = typename L::T;
  float result[kFloatColumns][kFloatRows];
  for (int64_t c = 0; c < x.columns; c += kFloatColumns) {
    const int n = static_cast<int>(std::min<int64_t>(kFloatColumns, x.columns - c));
    const float* columns[kFloatColumns];
    for (int i = 0; i < n; ++i) columns[i] = x.x + (c + i) * x.stride;
    for (int64_t row = row_begin; row < row_end; row += kFloatRows) {
      const int64_t rows = std::min<int64_t>(kFloatRows, row_end - row);
      const T* w[kFloatRows];
      // Rows past the end repeat the last one; their results are not stored.
      for (int64_t r = 0; r < kFloatRows; ++r) {
        w[r] = reinterpret_cast<const T*>(data + (row + std::min(r, rows - 1)) * row_stride);
      }
      float_tile_n<L, kFloatRows>(n, w, columns, x.k, result);
      for (int i = 0; i < n; ++i) {
        std::copy_n(result[i], rows, out + (c + i) * out_stride + row - row_begin);
      }
    }
  }
}

template <class L>
void float_rows(const uint8_t* data, int64_t row_stride, int64_t row_begin, int64_t row_end,
                const ActivationView& x, float* out, int64_t out_stride) {
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    float_row_tile<L>(data, row_stride, row, std::min(row + kRowTile, row_end), x,
                      out + row - row_begin, out_stride);
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
