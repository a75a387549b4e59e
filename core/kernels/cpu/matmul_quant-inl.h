// Quantised matrix products: dot_rows for a few columns, panels and a tiled int8 GEMM for many.
// Both follow the contract of matmul.h, so their results are bit-identical. Included once per
// target.

#if defined(MLXR_MATMUL_QUANT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_QUANT_INL_H
#undef MLXR_MATMUL_QUANT_INL_H
#else
#define MLXR_MATMUL_QUANT_INL_H
#endif

#include <algorithm>

#include "core/kernels/cpu/formats-inl.h"
#include "core/kernels/cpu/matmul.h"

#if MLXR_VECTOR_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

// Pointers to one column's quantised form.
struct Column {
  const int8_t* q;
  const float* scales;
  const int32_t* sums;  // every F::kSub elements
  const float* fsums;   // the same, scaled
};

template <class F>
HWY_INLINE Column column_of(const QuantizedActivations& a, int64_t c) {
  const bool fine = F::kSub == 16;
  const int64_t subs = a.k / F::kSub;
  return {a.q.data() + c * a.k, a.scales.data() + c * (a.k / 32),
          (fine ? a.sum16.data() : a.sum32.data()) + c * subs,
          (fine ? a.fsum16.data() : a.fsum32.data()) + c * subs};
}

// acc = fma(float(sum), d * s, acc), then the minimum: the one place where sub-blocks become
// floats.
template <class F, class D>
HWY_INLINE hn::Vec<D> accumulate(D df, hn::Vec<D> acc, hn::Vec<hn::RebindToSigned<D>> sum,
                                 const float* d, const float* m, const Column& a, int64_t sub) {
  const auto scale = hn::Mul(hn::Load(df, d), hn::Set(df, a.scales[sub * F::kSub / 32]));
  acc = hn::MulAdd(hn::ConvertTo(df, sum), scale, acc);
  if constexpr (F::kHasMin) {
    acc = hn::MulAdd(hn::Load(df, m), hn::Set(df, a.fsums[sub]), acc);
  }
  return acc;
}

template <class F, class DI, class VW>
HWY_INLINE hn::Vec<DI> dot(DI, hn::Vec<DI> acc, VW w, hn::Vec<DI> a) {
  if constexpr (F::kWide)
    return dot_wide(acc, w, a);
  else
    return dot_narrow(acc, w, a);
}

template <class F, class DI>
HWY_INLINE hn::Vec<DI> remove_offset(DI di, hn::Vec<DI> sum, const Column& a, int64_t sub) {
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

// Rows row .. row + 7 against C columns. Weights are read as they lie and unpacked once.
template <class F, int C>
HWY_NOINLINE void dot_rows8(const MatrixRef& w, int64_t row, const Column* columns, int64_t k,
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
        const Column& a = columns[c];
        const VI32 x{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.q + chunk * 32))};
        VI32 t[8];
        for (int r = 0; r < 8; ++r) t[r] = dot<F>(di, hn::Zero(di), q[r], x);
        const HalfSums sums = reduce_halves(t);
        if constexpr (F::kSub == 32) {
          const VI32 sum = remove_offset<F>(di, hn::Add(sums.low, sums.high), a, chunk);
          acc[c] = accumulate<F>(df, acc[c], sum, d[j], m[j], a, chunk);
        } else {
          const int64_t sub = chunk * 2;
          acc[c] = accumulate<F>(df, acc[c], remove_offset<F>(di, sums.low, a, sub), d[2 * j],
                                 m[2 * j], a, sub);
          acc[c] = accumulate<F>(df, acc[c], remove_offset<F>(di, sums.high, a, sub + 1),
                                 d[2 * j + 1], m[2 * j + 1], a, sub + 1);
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
      Column columns[kColumns];
      const int n = static_cast<int>(std::min<int64_t>(kColumns, x.columns - c));
      for (int i = 0; i < n; ++i) columns[i] = column_of<F>(*x.quantized, c + i);
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

// ---- Many columns: a panel of kPanelRows rows, unpacked once, then an int8 GEMM. ----

// The widest integer vector of the target; a panel is two of them in rows.
#if MLXR_VNNI
using DPanelI32 = hn::FixedTag<int32_t, 16>;
inline constexpr int kPanelColumns =
    6;  // 2 x 6 integer and 2 x 6 float accumulators of 32 registers
#else
using DPanelI32 = hn::FixedTag<int32_t, 8>;
inline constexpr int kPanelColumns = 3;  // 2 x 3 integer accumulators, the floats spill to L1
#endif
using DPanelF32 = hn::RebindToFloat<DPanelI32>;
using VPanelI32 = hn::Vec<DPanelI32>;
using VPanelF32 = hn::Vec<DPanelF32>;
inline constexpr int kLanes = MLXR_VNNI ? 16 : 8;
inline constexpr int kPanelRows = 2 * kLanes;

#if MLXR_VNNI
// dot_narrow and dot_wide on 512 bits (both forms are unsigned with VNNI).
HWY_INLINE VPanelI32 dot_narrow(VPanelI32 acc, VPanelI32 w, VPanelI32 a) {
  return VPanelI32{_mm512_dpbusd_epi32(acc.raw, w.raw, a.raw)};
}
HWY_INLINE VPanelI32 dot_wide(VPanelI32 acc, VPanelI32 w, VPanelI32 a) {
  return dot_narrow(acc, w, a);
}
#else
HWY_INLINE VI32 dot_narrow(VI32 acc, VI32 w, VI32 a) { return dot_narrow(acc, VU8{w.raw}, a); }
HWY_INLINE VI32 dot_wide(VI32 acc, VI32 w, VI32 a) { return dot_wide(acc, VU8{w.raw}, a); }
#endif

// Fills scratch.panel as [k / 4][kPanelRows][4] bytes and scales, mins as [k / kSub][kPanelRows].
// Rows past the end of the matrix repeat earlier ones; their results are not stored.
template <class F>
void unpack_panel(const MatrixRef& w, int64_t row, int64_t k, MatmulScratch& scratch) {
  scratch.panel.resize(static_cast<size_t>(k * kPanelRows));
  scratch.scales.resize(static_cast<size_t>(k / F::kSub * kPanelRows + 16));
  if (F::kHasMin) scratch.mins.resize(scratch.scales.size());
  alignas(32) float d[F::kSubs][8], m[F::kSubs][8];
  for (int group = 0; group < kPanelRows; group += 8) {
    const int64_t start = std::min(row + group, w.rows - 8);
    const uint8_t* base = w.data + start * w.row_stride;
    for (int64_t b = 0; b < k / F::kElements; ++b) {
      F::scales8(w, start, b, d, m);
      for (int s = 0; s < F::kSubs; ++s) {
        const int64_t at = (b * F::kSubs + s) * kPanelRows + group;
        std::copy_n(d[s], 8, scratch.scales.data() + at);
        if (F::kHasMin) std::copy_n(m[s], 8, scratch.mins.data() + at);
      }
      for (int j = 0; j < F::kElements / 32; ++j) {
        VU8 q[8];
        for (int r = 0; r < 8; ++r) q[r] = F::load32(base + r * w.row_stride + b * F::kBytes, j);
        transpose8(q);
        const int64_t word = b * (F::kElements / 4) + j * 8;
        for (int i = 0; i < 8; ++i) {
          hn::StoreU(q[i], DU8(), scratch.panel.data() + ((word + i) * kPanelRows + group) * 4);
        }
      }
    }
  }
}

HWY_INLINE VPanelI32 broadcast4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return hn::Set(DPanelI32(), word);
}

// kPanelRows rows against C columns; out[c][row].
template <class F, int C>
HWY_NOINLINE void panel_gemm(const MatmulScratch& s, const Column* columns, int64_t k,
                             float (*out)[kPanelRows]) {
  const DPanelI32 di;
  const DPanelF32 df;
  VPanelF32 acc[2][C];
  for (int v = 0; v < 2; ++v) {
    for (int c = 0; c < C; ++c) acc[v][c] = hn::Zero(df);
  }
  const auto* panel = reinterpret_cast<const int32_t*>(s.panel.data());
  for (int64_t sub = 0; sub < k / F::kSub; ++sub) {
    VPanelI32 sum[2][C];
    for (int c = 0; c < C; ++c) {
      sum[0][c] = F::kOffset == 0 ? hn::Zero(di) : hn::Set(di, -F::kOffset * columns[c].sums[sub]);
      sum[1][c] = sum[0][c];
    }
    HWY_UNROLL(8)
    for (int g = 0; g < F::kSub / 4; ++g, panel += kPanelRows) {
      const VPanelI32 w0 = hn::LoadU(di, panel);
      const VPanelI32 w1 = hn::LoadU(di, panel + kLanes);
      for (int c = 0; c < C; ++c) {
        const VPanelI32 a = broadcast4(columns[c].q + sub * F::kSub + 4 * g);
        if constexpr (F::kWide) {
          sum[0][c] = dot_wide(sum[0][c], w0, a);
          sum[1][c] = dot_wide(sum[1][c], w1, a);
        } else {
          sum[0][c] = dot_narrow(sum[0][c], w0, a);
          sum[1][c] = dot_narrow(sum[1][c], w1, a);
        }
      }
    }
    for (int v = 0; v < 2; ++v) {
      const int64_t at = sub * kPanelRows + v * kLanes;
      const auto d = hn::LoadU(df, s.scales.data() + at);
      for (int c = 0; c < C; ++c) {
        const auto scale = hn::Mul(d, hn::Set(df, columns[c].scales[sub * F::kSub / 32]));
        acc[v][c] = hn::MulAdd(hn::ConvertTo(df, sum[v][c]), scale, acc[v][c]);
      }
      if constexpr (F::kHasMin) {
        const auto m = hn::LoadU(df, s.mins.data() + at);
        for (int c = 0; c < C; ++c) {
          acc[v][c] = hn::MulAdd(m, hn::Set(df, columns[c].fsums[sub]), acc[v][c]);
        }
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    hn::StoreU(acc[0][c], df, out[c]);
    hn::StoreU(acc[1][c], df, out[c] + kLanes);
  }
}

template <class F, int C = kPanelColumns>
HWY_INLINE void panel_gemm_n(int n, const MatmulScratch& s, const Column* columns, int64_t k,
                             float (*out)[kPanelRows]) {
  if constexpr (C > 0) {
    if (n == C) return panel_gemm<F, C>(s, columns, k, out);
    return panel_gemm_n<F, C - 1>(n, s, columns, k, out);
  }
}

template <class F>
void panel_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                float* out, int64_t out_stride, MatmulScratch& scratch) {
  alignas(64) float result[kPanelColumns][kPanelRows];
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    unpack_panel<F>(w, row, x.k, scratch);
    for (int64_t c = 0; c < x.columns; c += kPanelColumns) {
      Column columns[kPanelColumns];
      const int n = static_cast<int>(std::min<int64_t>(kPanelColumns, x.columns - c));
      for (int i = 0; i < n; ++i) columns[i] = column_of<F>(*x.quantized, c + i);
      panel_gemm_n<F>(n, scratch, columns, x.k, result);
      for (int i = 0; i < n; ++i) {
        float* to = out + (c + i) * out_stride + row - row_begin;
        for (int group = 0; group < kPanelRows && row + group < row_end; group += 8) {
          const int64_t skip = row + group - std::min(row + group, w.rows - 8);
          const int64_t count = std::min<int64_t>(8 - skip, row_end - row - group);
          std::copy_n(result[i] + group + skip, count, to + group);
        }
      }
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_VECTOR_PATH
#endif  // include guard
