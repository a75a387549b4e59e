// Products of quantised rows as they lie in the file: eight rows side by side for a few columns,
// unpacked to a panel for many. What runs when packing is off; x86 only. Included once per target.

#if defined(MLXR_MATMUL_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_ROWS_INL_H
#undef MLXR_MATMUL_ROWS_INL_H
#else
#define MLXR_MATMUL_ROWS_INL_H
#endif

#include <algorithm>

#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/panel_gemm-inl.h"
#include "core/kernels/cpu/row_formats-inl.h"

#if MLXR_VECTOR_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

template <class F, class DI, class VW>
HWY_INLINE hn::Vec<DI> dot(DI, hn::Vec<DI> acc, VW w, hn::Vec<DI> a) {
  if constexpr (F::kWide)
    return dot_wide(acc, w, a);
  else
    return dot_narrow(acc, w, a);
}

template <class F, class DI>
HWY_INLINE hn::Vec<DI> remove_offset(DI di, hn::Vec<DI> sum, const Columns& a, int64_t sub) {
  if constexpr (F::kOffset == 0)
    return sum;
  else
    return hn::Sub(sum, hn::Set(di, F::kOffset * a.sums[sub]));
}

// Asks for the lines of [p, p + bytes). Eight rows read side by side are more streams than the
// hardware follows, so the next eight rows are asked for in the order they lie.
HWY_INLINE void prefetch(const uint8_t* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T0);
}

// Above this many columns, unpacking rows to a panel costs less than unpacking them for each four.
inline constexpr int64_t kMaxRowDotColumns = 4;

// Rows row .. row + 7 against C columns, each a tile of its own. Weights are read as they lie and
// unpacked once.
template <class F, int C>
HWY_NOINLINE void dot_rows8(const MatrixRef& w, int64_t row, const Columns* columns, int64_t k,
                            float (*out)[8]) {
  const DI32 di;
  const DF32 df;
  VF32 acc[C];
  for (int c = 0; c < C; ++c) acc[c] = hn::Zero(df);
  alignas(32) float d[F::kSubs][8], m[F::kSubs][8];
  const uint8_t* base = w.data + row * w.row_stride;
  for (int64_t b = 0; b < k / F::kElements; ++b) {
    F::scales8(w, row, b, d, m);
    const uint8_t* block = base + b * F::kBytes;
    prefetch(base + 8 * w.row_stride + b * 8 * F::kBytes, 8 * F::kBytes);
    HWY_UNROLL(8)
    for (int j = 0; j < F::kElements / 32; ++j) {
      const int64_t chunk = b * (F::kElements / 32) + j;
      VU8 q[8];
      for (int r = 0; r < 8; ++r) q[r] = F::load32(block + r * w.row_stride, j);
      for (int c = 0; c < C; ++c) {
        const Columns& a = columns[c];
        const VI32 x{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.q + chunk * 32))};
        VI32 t[8];
        for (int r = 0; r < 8; ++r) t[r] = dot<F>(di, hn::Zero(di), q[r], x);
        const HalfSums sums = reduce_halves(t);
        if constexpr (F::kSub == 32) {
          const VI32 sum = remove_offset<F>(di, hn::Add(sums.low, sums.high), a, chunk);
          acc[c] = accumulate<F, 1>(df, acc[c], sum, hn::Load(df, d[j]), m[j], a, chunk, 0);
        } else {
          const int64_t sub = chunk * 2;
          acc[c] = accumulate<F, 1>(df, acc[c], remove_offset<F>(di, sums.low, a, sub),
                                    hn::Load(df, d[2 * j]), m[2 * j], a, sub, 0);
          acc[c] = accumulate<F, 1>(df, acc[c], remove_offset<F>(di, sums.high, a, sub + 1),
                                    hn::Load(df, d[2 * j + 1]), m[2 * j + 1], a, sub + 1, 0);
        }
      }
    }
  }
  for (int c = 0; c < C; ++c) hn::StoreU(acc[c], df, out[c]);
}

// Up to 8 rows starting at `row` (fewer at the end of the matrix), every column.
// A matrix of at least 8 rows: the last group starts early, and only the asked rows are stored.
template <class F>
void dot_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
              float* out, int64_t out_stride) {
  constexpr int kColumns = 4;
  alignas(32) float result[kColumns][8];
  for (int64_t row = row_begin; row < row_end; row += 8) {
    const int64_t start = std::min(row, w.rows - 8);
    const int64_t count = std::min<int64_t>(8, row_end - row);
    for (int64_t c = 0; c < x.columns; c += kColumns) {
      Columns columns[kColumns];
      const int n = static_cast<int>(std::min<int64_t>(kColumns, x.columns - c));
      for (int i = 0; i < n; ++i) columns[i] = tile_at<F::kSub>(*x.quantized, c + i);
      switch (n) {
        case 1:
          dot_rows8<F, 1>(w, start, columns, x.k, result);
          break;
        case 2:
          dot_rows8<F, 2>(w, start, columns, x.k, result);
          break;
        case 3:
          dot_rows8<F, 3>(w, start, columns, x.k, result);
          break;
        default:
          dot_rows8<F, 4>(w, start, columns, x.k, result);
          break;
      }
      for (int i = 0; i < n; ++i) {
        std::copy_n(result[i] + (row - start), count, out + (c + i) * out_stride + row - row_begin);
      }
    }
  }
}

// ---- Many columns ----

// Rows row .. row + 15 to a group's panel, eight rows at a time. The last eight rows of a matrix
// are read together and their lanes moved; lanes past the end repeat the last row and are not
// stored.
template <class F>
void unpack_rows(const MatrixRef& w, int64_t row, int64_t k, uint8_t* panel, float* scales,
                 float* mins) {
  alignas(32) float d[F::kSubs][8], m[F::kSubs][8];
  for (int half = 0; half < 16; half += 8) {
    const int64_t start = std::min(row + half, w.rows - 8);
    const auto lane = [skip = row + half - start](int64_t i) {
      return std::min<int64_t>(i + skip, 7);
    };
    const uint8_t* base = w.data + start * w.row_stride;
    for (int64_t b = 0; b < k / F::kElements; ++b) {
      F::scales8(w, start, b, d, m);
      for (int s = 0; s < F::kSubs; ++s) {
        const int64_t at = (b * F::kSubs + s) * kGroupRows + half;
        for (int i = 0; i < 8; ++i) {
          scales[at + i] = d[s][lane(i)];
          if constexpr (F::kHasMin) mins[at + i] = m[s][lane(i)];
        }
      }
      for (int j = 0; j < F::kElements / 32; ++j) {
        VU8 q[8];
        for (int i = 0; i < 8; ++i) {
          q[i] = F::load32(base + lane(i) * w.row_stride + b * F::kBytes, j);
        }
        transpose8(q);
        const int64_t word = b * (F::kElements / 4) + j * 8;
        for (int i = 0; i < 8; ++i) {
          hn::StoreU(q[i], DU8(), panel + ((word + i) * kGroupRows + half) * 4);
        }
      }
    }
  }
}

template <class F>
void panel_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                float* out, int64_t out_stride, MatmulScratch& scratch) {
  const PanelRoom<F> room(scratch, x.k);
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const int64_t rows = std::min<int64_t>(kRowTile, row_end - row);
    for (int64_t g = 0; g * kGroupRows < rows; ++g) {
      unpack_rows<F>(w, row + g * kGroupRows, x.k, room.q_of(g), room.scales_of(g),
                     room.mins_of(g));
    }
    panel_gemm<F>(room, rows, x, {}, out + row - row_begin, out_stride);
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_VECTOR_PATH
#endif  // include guard
