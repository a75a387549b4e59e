// Activation columns in the form that matmul kernels read: float32 for float weights, int8 with a
// scale every 32 for quantised ones. Quantised once, used by every matrix that shares the input.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr {
class ThreadPool;
}

namespace mlxr::cpu {

// x[column][i] ~ scale[column][i / 32] * q[column][i], i < k; columns are tokens.
//
// Columns lie in tiles, as many side by side as the kernel computes together, so that it reads one
// stream: columns at a distance of k bytes, often a power of two, would fall on the same lines of
// the cache (a prompt of 512 tokens ran at 0.85 of the speed so). A tile of C columns holds
//   q       [k / 4][C][4]     scales  [k / 32][C]     sum32, fsum32  [k / 32][C]
//   sum16, fsum16  [k / 16][C]
// and tile t begins where t * tile columns would end; the last one may be narrower.
struct QuantizedActivations {
  int64_t columns = 0;
  int64_t k = 0;
  int64_t tile = 1;  // columns
  std::vector<int8_t> q;
  std::vector<float> scales;
  std::vector<int32_t> sum32;  // sums of 32 q
  std::vector<int32_t> sum16;
  std::vector<float> fsum32;  // scale * sum
  std::vector<float> fsum16;
};

// One column group as a kernel sees it: both forms, the quantised one absent where nobody needs it.
struct ActivationView {
  const float* x = nullptr;  // [columns, stride]
  int64_t stride = 0;
  int64_t columns = 0;
  int64_t k = 0;
  const QuantizedActivations* quantized = nullptr;
  const float* tiles = nullptr;  // float32 in tiles, for packed float weights
};

// True for formats whose rows, as they lie in the file, have a kernel that multiplies blocks of
// int8, which only x86 has; rows of others are decoded to float32.
constexpr bool has_row_kernel(QuantFormat format) {
#if defined(__x86_64__)
  return (format >= QuantFormat::kQ4_0 && format <= QuantFormat::kQ6_K) ||
         format == QuantFormat::kMlxAffine;
#else
  return false;
#endif
}

// True when products of this matrix read the int8 form.
constexpr bool needs_quantized_activations(const MatrixRef& w) {
  return w.packed ? !is_float(w.format) : has_row_kernel(w.format);
}

// Float columns in tiles of [k][C], as QuantizedActivations::q: what packed float weights read.
void tile_activations(const float* x, int64_t stride, int64_t columns, int64_t k, int64_t tile,
                      std::vector<float>& out, ThreadPool& pool);

// Columns a tile that the kernels of `w` want of an input of `columns` columns.
int64_t activation_tile(const MatrixRef& w, int64_t columns);

// Quantises columns x[c * stride + i], i < k (a multiple of 32), into tiles of `tile`: symmetric
// int8, scale max|x| / 127. A block of 32 that holds a NaN or an infinity has zeros for q and NaN
// for its scale, so that every product which reads it is NaN, and no plausible number.
void quantize_activations(const float* x, int64_t stride, int64_t columns, int64_t k, int64_t tile,
                          QuantizedActivations& out, ThreadPool& pool);

}  // namespace mlxr::cpu
