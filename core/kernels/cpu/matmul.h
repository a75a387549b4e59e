// Matrix products of weights in any format with activation columns, one thread's share at a time.
//
// Contract (DESIGN 4, "one order of accumulation"): out[c][r] depends on row r and column c alone.
// For quantised formats, the products of a sub-block (32 or 16 columns) are summed as exact
// integers, then acc = fma(float(sum), d * s, acc), and acc = fma(m, s * asum, acc) for formats
// with a minimum, over sub-blocks in order. Packed float weights: matmul_packed_float-inl.h. Rows
// of floats: lane i of one accumulator takes the elements i modulo the vector width in order, and
// the lanes are added by a fixed tree. So one column or five hundred, alone or in company, give the
// same bits on the same instruction set. Without vectors for a format (or below eight rows) a row
// is decoded to float32 and treated as such.
//
// An activation that is NaN or infinite makes what is no number of every row's result in its column
// (activations.h), and changes no other column.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/cpu/activations.h"
#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr::cpu {

// Rows of work that a thread should take at once; ranges start at multiples of it.
inline constexpr int64_t kRowTile = 32;

// Reused between calls so that the hot path does not allocate. One per thread.
struct MatmulScratch {
  std::vector<uint8_t> panel;
  std::vector<float> scales;
  std::vector<float> mins;
  std::vector<float> floats;
};

// out[c * out_stride + r - row_begin] for rows r in [row_begin, row_end) and every column c of x.
// row_begin is a multiple of kRowTile.
void matmul_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                 float* out, int64_t out_stride, MatmulScratch& scratch);

// Decodes row `row` to out[cols] (embedding look-up).
void decode_row(const MatrixRef& w, int64_t row, float* out);

}  // namespace mlxr::cpu
