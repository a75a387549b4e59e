// The products of a target: which kernel takes a matrix, and how it wants its activations. Included
// once per target.

#if defined(MLXR_MATMUL_TARGET_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_TARGET_INL_H
#undef MLXR_MATMUL_TARGET_INL_H
#else
#define MLXR_MATMUL_TARGET_INL_H
#endif

#include <algorithm>

#include "core/kernels/cpu/matmul_float-inl.h"
#include "core/kernels/cpu/matmul_packed-inl.h"
#include "core/kernels/cpu/matmul_packed_float-inl.h"
#include "core/kernels/cpu/matmul_rows-inl.h"

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
  if (w.packed) {
    if (!is_float(w.format)) {
      return packed_rows(w, row_begin, row_end, x, out, out_stride, scratch);
    }
    return visit_float(w.format, [&](auto load) {
      packed_float_rows<decltype(load)>(w, row_begin, row_end, x, out, out_stride, scratch);
    });
  }
#endif
  if (is_float(w.format)) {
    return visit_float(w.format, [&](auto load) {
      float_rows<decltype(load)>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    });
  }
  switch (w.format) {
    case QuantFormat::kF8_E4M3:
      return float_rows<LoadF8E4M3>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    case QuantFormat::kF8_E5M2:
      return float_rows<LoadF8E5M2>(w.data, w.row_stride, row_begin, row_end, x, out, out_stride);
    default:
      break;
  }
#if MLXR_VECTOR_PATH
  if (w.rows >= 8 && has_row_kernel(w.format)) {
    visit_format(w, [&](auto format) {
      using F = decltype(format);
      if (x.columns <= kMaxRowDotColumns) {
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

int64_t activation_tile_target(const MatrixRef& w, int64_t columns) {
#if MLXR_PACKED_PATH
  if (w.packed && is_float(w.format)) return std::min<int64_t>(columns, kFloatTileColumns);
  if (w.packed && columns <= kMaxDotColumns) return std::min<int64_t>(columns, kDotColumns);
  if (w.packed) return kTileColumns;
#endif
#if MLXR_VECTOR_PATH
  if (columns > kMaxRowDotColumns) return kTileColumns;
#endif
  return 1;
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
