// Products of interleaved float matrices (F32, F16, BF16): tiles of [k][32 rows] against tiles of
// [k][C columns] of float32 activations. Included once per target.
//
// Contract: a row's products are added one after the other by fused multiply-adds over 256 columns,
// and those sums in order. That is the order for one column and for five hundred; the blocks keep
// the error of a long row small, and let a block of weights stay in the first cache while the
// activations of a prompt pass.

#if defined(MLXR_MATMUL_PACKED_FLOAT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_PACKED_FLOAT_INL_H
#undef MLXR_MATMUL_PACKED_FLOAT_INL_H
#else
#define MLXR_MATMUL_PACKED_FLOAT_INL_H
#endif

#include <algorithm>

#include "core/kernels/cpu/dot4-inl.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/matmul_float-inl.h"
#include "core/kernels/cpu/packed_layout.h"

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

inline constexpr int64_t kFloatBlock = 256;
// A register tile is kFloatVectors vectors of rows by kFloatTileColumns columns: 2 x 12 of 32
// registers, or 2 x 6 of 16.
inline constexpr int kFloatVectors = 2;
inline constexpr int kFloatTileColumns = kParts == 1 ? 12 : 6;
inline constexpr int kFloatTileRows = kFloatVectors * kLanes;
static_assert(kRowTile % kFloatTileRows == 0);

// out[c * out_stride + row] (+)= the products of `count` columns of weights; w is [k][kRowTile], x
// is [k][C]. The first block is stored, the others are added.
template <class L, int C>
HWY_NOINLINE void float_block(const typename L::T* w, const float* x, int64_t count, bool first,
                              float* out, int64_t out_stride) {
  constexpr int64_t kLines = kRowTile * sizeof(typename L::T) / 64;
  const int64_t ahead = weight_prefetch();
  const DF df;
  VF acc[C][kFloatVectors];
  for (int c = 0; c < C; ++c) {
    for (int v = 0; v < kFloatVectors; ++v) acc[c][v] = hn::Zero(df);
  }
  for (int64_t i = 0; i < count; ++i) {
    if (ahead > 0) {
      prefetch_lines(reinterpret_cast<const uint8_t*>(w + i * kRowTile) + ahead, kLines);
    }
    VF weights[kFloatVectors];
    for (int v = 0; v < kFloatVectors; ++v) {
      weights[v] = L::load(w + i * kRowTile + v * kLanes);
    }
    for (int c = 0; c < C; ++c) {
      const VF value = hn::Set(df, x[i * C + c]);
      for (int v = 0; v < kFloatVectors; ++v) {
        acc[c][v] = hn::MulAdd(weights[v], value, acc[c][v]);
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    for (int v = 0; v < kFloatVectors; ++v) {
      float* to = out + c * out_stride + v * kLanes;
      hn::StoreU(first ? acc[c][v] : hn::Add(hn::LoadU(df, to), acc[c][v]), df, to);
    }
  }
}

template <class L, int C = kFloatTileColumns>
HWY_INLINE void float_block_n(int n, const typename L::T* w, const float* x, int64_t count,
                              bool first, float* out, int64_t out_stride) {
  if constexpr (C > 0) {
    if (n == C) return float_block<L, C>(w, x, count, first, out, out_stride);
    return float_block_n<L, C - 1>(n, w, x, count, first, out, out_stride);
  }
}

// One tile of rows against every column; sums is [columns][kRowTile].
template <class L>
void float_tile_columns(const typename L::T* tile, const ActivationView& x, float* sums) {
  for (int64_t k = 0; k < x.k; k += kFloatBlock) {
    const int64_t count = std::min(kFloatBlock, x.k - k);
    for (int64_t c = 0; c < x.columns; c += kFloatTileColumns) {
      const int n = static_cast<int>(std::min<int64_t>(kFloatTileColumns, x.columns - c));
      for (int row = 0; row < kRowTile; row += kFloatTileRows) {
        float_block_n<L>(n, tile + k * kRowTile + row, x.tiles + c * x.k + k * n, count, k == 0,
                         sums + c * kRowTile + row, kRowTile);
      }
    }
  }
}

template <class L>
void packed_float_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end,
                       const ActivationView& x, float* out, int64_t out_stride,
                       MatmulScratch& scratch) {
  scratch.floats.resize(static_cast<size_t>(x.columns * kRowTile));
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const uint8_t* tile = w.data + row / kRowTile * w.tile_stride;
    float_tile_columns<L>(reinterpret_cast<const typename L::T*>(tile), x, scratch.floats.data());
    const int64_t count = std::min(kRowTile, row_end - row);
    for (int64_t c = 0; c < x.columns; ++c) {
      std::copy_n(scratch.floats.data() + c * kRowTile, count,
                  out + c * out_stride + row - row_begin);
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
