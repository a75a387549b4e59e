// The one int8 matrix product of all quantised formats: rows unpacked to a panel, once a tile,
// against any number of activation columns. Follows the contract of matmul.h, so its results are
// bit for bit those of the products of few columns. Included once per target.

#if defined(MLXR_PANEL_GEMM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_PANEL_GEMM_INL_H
#undef MLXR_PANEL_GEMM_INL_H
#else
#define MLXR_PANEL_GEMM_INL_H
#endif

#include <algorithm>
#include <span>

#include "core/kernels/cpu/columns-inl.h"
#include "core/kernels/cpu/dot4-inl.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/packed_layout.h"

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

// What the product needs to know of a format; formats that agree in it share their code.
template <int sub, int offset, bool has_min, class Kind>
struct PanelKind {
  static constexpr int kSub = sub;
  static constexpr int kOffset = offset;
  static constexpr bool kHasMin = has_min;
  using DotKind = Kind;
};
template <class F>
using PanelKindOf = PanelKind<F::kSub, F::kOffset, F::kHasMin, CommonDot<typename F::DotKind>>;

// A register tile is kTileGroups groups by kTileColumns columns: with 32 registers of a whole group
// 2 x 6 integer and 2 x 6 float accumulators; with 16 registers of half a group 2 x 3 of each, and
// the floats wait in L1. NEON's 32 registers of a quarter hold 4 x 3 of each; i8mm wants an even
// number of columns.
inline constexpr int kTileGroups = kParts == 1 ? 2 : 1;
inline constexpr int kTileColumns = kParts == 1 ? 6 : MLXR_I8MM ? 4 : 3;
static_assert(kTileGroups * kGroupRows <= kRowTile && kRowTile % kGroupRows == 0);

// A group of rows, unpacked.
struct Panel {
  const uint8_t* q;     // [k / 4][16][4]
  const float* scales;  // [k / kSub][16]
  const float* mins;    // the same
};

// Room for one tile's panels of `k` columns; group g's part of each array.
template <class F>
struct PanelRoom {
  PanelRoom(MatmulScratch& scratch, int64_t k) : subs(k / F::kSub * kGroupRows), bytes(k * 16) {
    scratch.panel.resize(static_cast<size_t>(kRowTile / kGroupRows * bytes));
    scratch.scales.resize(static_cast<size_t>(kRowTile / kGroupRows * subs));
    if (F::kHasMin) scratch.mins.resize(scratch.scales.size());
    q = scratch.panel.data();
    scales = scratch.scales.data();
    mins = scratch.mins.data();
  }
  uint8_t* q_of(int64_t group) const { return q + group * bytes; }
  float* scales_of(int64_t group) const { return scales + group * subs; }
  float* mins_of(int64_t group) const { return F::kHasMin ? mins + group * subs : nullptr; }
  Panel panel(int64_t group) const { return {q_of(group), scales_of(group), mins_of(group)}; }

  int64_t subs, bytes;
  uint8_t* q;
  float* scales;
  float* mins;
};

// Weights that are wanted soon, asked for while arithmetic runs: a share of them beside each
// sub-block of each tile of columns. Without it reading and computing take turns (Zen 4, two
// threads, a whole step of Llama-1B Q4_K_M: 1.03 to 1.11 times the speed at 17 to 48 columns, no
// less above).
class WeightsAhead {
 public:
  WeightsAhead(const uint8_t* data, int64_t bytes, int64_t steps)
      : at_(data), end_(data + bytes), lines_((bytes / 64 + steps) / std::max<int64_t>(steps, 1)) {}
  HWY_INLINE void step() {
    for (int64_t i = 0; i < lines_ && at_ < end_; ++i, at_ += 64) __builtin_prefetch(at_, 0, 2);
  }

 private:
  const uint8_t *at_, *end_;
  int64_t lines_;
};

// out[c][16 g + row] of G groups and C columns.
template <class K, int G, int C>
HWY_NOINLINE void panel_tile(const Panel* panels, Columns tile, int64_t k, WeightsAhead& ahead,
                             float (*out)[kRowTile]) {
  constexpr int P = G * kParts;
  constexpr int kWords = K::kSub / 4;
  const DI di;
  const DF df;
  VF acc[C][P];
  for (int c = 0; c < C; ++c) {
    for (int p = 0; p < P; ++p) acc[c][p] = hn::Zero(df);
  }
  int64_t at = 0;  // of the sub-block's bytes in a panel
  for (int64_t sub = 0; sub < k / K::kSub; ++sub, at += 64 * kWords) {
    ahead.step();
    VI sums[C][P];
    for (int c = 0; c < C; ++c) {
      for (int p = 0; p < P; ++p) {
        sums[c][p] =
            K::kOffset == 0 ? hn::Zero(di) : hn::Set(di, -K::kOffset * tile.sums[sub * C + c]);
      }
    }
    dot_words<typename K::DotKind, 0, kWords, C, P>(
        [&](int g, int p) HWY_ATTR {
          return hn::LoadU(DB(), panels[p / kParts].q + at + 64 * g + kVecBytes * (p % kParts));
        },
        tile.q, sums);
    tile.q += K::kSub * C;
    for (int p = 0; p < P; ++p) {
      const int64_t lane = sub * kGroupRows + kLanes * (p % kParts);
      const VF d = hn::LoadU(df, panels[p / kParts].scales + lane);
      const float* m = K::kHasMin ? panels[p / kParts].mins + lane : nullptr;
      for (int c = 0; c < C; ++c) {
        acc[c][p] = accumulate<K, C>(df, acc[c][p], sums[c][p], d, m, tile, sub, c);
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    for (int p = 0; p < P; ++p) hn::StoreU(acc[c][p], df, out[c] + kLanes * p);
  }
}

template <class K, int G, int C = kTileColumns>
HWY_INLINE void panel_tile_n(int n, const Panel* panels, Columns tile, int64_t k,
                             WeightsAhead& ahead, float (*out)[kRowTile]) {
  if constexpr (C > 0) {
    if (n == C) return panel_tile<K, G, C>(panels, tile, k, ahead, out);
    return panel_tile_n<K, G, C - 1>(n, panels, tile, k, ahead, out);
  }
}

// `rows` rows (at most kRowTile) whose groups lie in `room`, every column of x. `next` are the
// weights of the next tile (none: empty).
template <class F>
void panel_gemm(const PanelRoom<F>& room, int64_t rows, const ActivationView& x,
                std::span<const uint8_t> next, float* out, int64_t out_stride) {
  using K = PanelKindOf<F>;
  alignas(64) float result[kTileColumns][kRowTile];
  const int64_t groups = (rows + kGroupRows - 1) / kGroupRows;
  const int64_t tiles =
      (x.columns + kTileColumns - 1) / kTileColumns * ((groups + kTileGroups - 1) / kTileGroups);
  WeightsAhead ahead(next.data(), static_cast<int64_t>(next.size()), tiles * (x.k / K::kSub));
  for (int64_t c = 0; c < x.columns; c += kTileColumns) {
    const Columns tile = tile_at<F::kSub>(*x.quantized, c);
    const int n = static_cast<int>(std::min<int64_t>(kTileColumns, x.columns - c));
    // Each column's results go to a page of its own; while they are computed, its lines arrive.
    // (Zen 4, one thread: 1.14 to 1.21 times the speed at k = 512, 1.03 to 1.06 at 2048.)
    for (int i = 0; i < n; ++i) {
      __builtin_prefetch(out + (c + i) * out_stride, 1);
      __builtin_prefetch(out + (c + i) * out_stride + kRowTile / 2, 1);
    }
    for (int64_t g = 0; g < groups; g += kTileGroups) {
      Panel panels[kTileGroups];
      for (int i = 0; i < kTileGroups; ++i) {
        panels[i] = room.panel(std::min(g + i, groups - 1));  // a missing group repeats the last
      }
      panel_tile_n<K, kTileGroups>(n, panels, tile, x.k, ahead, result);
      const int64_t row = g * kGroupRows;
      const int64_t count = std::min<int64_t>(kTileGroups * kGroupRows, rows - row);
      for (int i = 0; i < n; ++i) std::copy_n(result[i], count, out + (c + i) * out_stride + row);
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
