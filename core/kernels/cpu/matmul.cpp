// Run-time dispatch of the matrix products; see matmul.h for the contract.
#include "core/kernels/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "core/base/error.h"
#include "core/base/thread_pool.h"
#include "core/formats/weight_view.h"
#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/matmul.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/matmul_float-inl.h"
#include "core/kernels/cpu/matmul_packed-inl.h"
#include "core/kernels/cpu/matmul_rows-inl.h"
#include "hwy/highway.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

// Decodes rows to float32 one tile at a time: the path of targets and shapes without a vector
// kernel.
void decoded_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                  float* out, int64_t out_stride, MatmulScratch& scratch) {
  scratch.floats.resize(static_cast<size_t>(kFloatRows * w.cols));
  const int64_t stride = w.cols * static_cast<int64_t>(sizeof(float));
  for (int64_t row = row_begin; row < row_end; row += kFloatRows) {
    const int64_t rows = std::min<int64_t>(kFloatRows, row_end - row);
    for (int64_t r = 0; r < rows; ++r) decode_row(w, row + r, scratch.floats.data() + r * w.cols);
    float_rows<LoadF32>(reinterpret_cast<const uint8_t*>(scratch.floats.data()), stride, 0, rows, x,
                        out + row - row_begin, out_stride);
  }
}

void matmul_rows_target(const MatrixRef& w, int64_t row_begin, int64_t row_end,
                        const ActivationView& x, float* out, int64_t out_stride,
                        MatmulScratch& scratch) {
#if MLXR_PACKED_PATH
  if (w.packed) return packed_rows(w, row_begin, row_end, x, out, out_stride, scratch);
#endif
  switch (w.format) {
    case QuantFormat::kF32:
      return float_rows<LoadF32>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    case QuantFormat::kF16:
      return float_rows<LoadF16>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    case QuantFormat::kBF16:
      return float_rows<LoadBF16>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    default:
      break;
  }
#if MLXR_VECTOR_PATH
  // Up to this many columns, unpacking a block again for each four costs less than writing a panel.
  constexpr int64_t kMaxDotColumns = 4;
  if (w.rows >= 8 && has_row_kernel(w.format)) {
    visit_format(w, [&](auto format) {
      using F = decltype(format);
      if (x.columns <= kMaxDotColumns) {
        dot_rows<F>(w, row_begin, row_end, x, out, out_stride);
      } else {
        panel_rows<F>(w, row_begin, row_end, x, out, out_stride, scratch);
      }
    });
    return;
  }
#endif
  decoded_rows(w, row_begin, row_end, x, out, out_stride, scratch);
}

// One column of k floats to int8, a block of 32 at a time.
void quantize_column_target(const float* x, int64_t k, int8_t* q, float* scales, int32_t* sum32,
                            int32_t* sum16, float* fsum32, float* fsum16) {
  const hn::CappedTag<float, 8> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<int8_t, decltype(df)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t b = 0; b < k / 32; ++b) {
    const float* from = x + b * 32;
    auto largest = hn::Zero(df);
    for (int64_t i = 0; i < 32; i += lanes) {
      largest = hn::Max(largest, hn::Abs(hn::LoadU(df, from + i)));
    }
    const float most = hn::GetLane(hn::MaxOfLanes(df, largest));
    const float scale = most / 127.0f;
    const auto inverse = hn::Set(df, most > 0 ? 127.0f / most : 0.0f);
    int32_t sums[2];
    for (int half = 0; half < 2; ++half) {
      auto sum = hn::Zero(di);
      for (int64_t i = half * 16; i < half * 16 + 16; i += lanes) {
        const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(df, from + i), inverse));
        // Denormal inputs can make the inverse overflow; the contract is [-127, 127].
        const auto bounded = hn::Min(hn::Max(rounded, hn::Set(di, -127)), hn::Set(di, 127));
        sum = hn::Add(sum, bounded);
        hn::StoreU(hn::DemoteTo(d8, bounded), d8, q + b * 32 + i);
      }
      sums[half] = hn::GetLane(hn::SumOfLanes(di, sum));
      sum16[b * 2 + half] = sums[half];
      fsum16[b * 2 + half] = scale * static_cast<float>(sums[half]);
    }
    scales[b] = scale;
    sum32[b] = sums[0] + sums[1];
    fsum32[b] = scale * static_cast<float>(sum32[b]);
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(matmul_rows_target);
HWY_EXPORT(quantize_column_target);

void matmul_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                 float* out, int64_t out_stride, MatmulScratch& scratch) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(matmul_rows_target)
  (w, row_begin, row_end, x, out, out_stride, scratch);
}

void quantize_activations(const float* x, int64_t stride, int64_t columns, int64_t k,
                          QuantizedActivations& out, ThreadPool& pool) {
  select_simd_level();
  out.columns = columns;
  out.k = k;
  out.q.resize(static_cast<size_t>(columns * k));
  out.scales.resize(static_cast<size_t>(columns * (k / 32)));
  out.sum32.resize(out.scales.size());
  out.fsum32.resize(out.scales.size());
  out.sum16.resize(out.scales.size() * 2);
  out.fsum16.resize(out.scales.size() * 2);
  const auto quantize = [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; ++c) {
      const int64_t b = c * (k / 32);
      HWY_DYNAMIC_DISPATCH(quantize_column_target)
      (x + c * stride, k, out.q.data() + c * k, out.scales.data() + b, out.sum32.data() + b,
       out.sum16.data() + 2 * b, out.fsum32.data() + b, out.fsum16.data() + 2 * b);
    }
  };
  if (columns == 1) {
    quantize(0, 1, 0);  // shorter than waking a thread
  } else {
    pool.parallel_for(columns, 8, quantize);
  }
}

void decode_row(const MatrixRef& w, int64_t row, float* out) {
  WeightView view;
  view.format = w.format;
  view.shape = {w.rows, w.cols};
  const auto span = [](const uint8_t* p, int64_t n) {
    return std::span(reinterpret_cast<const std::byte*>(p), static_cast<size_t>(n));
  };
  if (w.format == QuantFormat::kMlxAffine) {
    const int64_t scales =
        w.rows * (w.cols / w.group) * (w.scale_format == QuantFormat::kF32 ? 4 : 2);
    view.bits = w.bits;
    view.group = w.group;
    view.scale_format = w.scale_format;
    view.scales = span(w.scales, scales);
    view.biases = span(w.biases, scales);
  }
  view.bytes = span(w.data, w.rows * w.row_stride);
  dequantize_row(view, row, out);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
