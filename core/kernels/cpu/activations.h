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

// x[column][i] ~ scales[column][i / 32] * q[column][i], i < k; columns are tokens.
struct QuantizedActivations {
  int64_t columns = 0;
  int64_t k = 0;
  std::vector<int8_t> q;       // [columns, k]
  std::vector<float> scales;   // [columns, k / 32]
  std::vector<int32_t> sum32;  // [columns, k / 32] sums of q
  std::vector<int32_t> sum16;  // [columns, k / 16]
  std::vector<float> fsum32;   // [columns, k / 32] scale * sum32
  std::vector<float> fsum16;   // [columns, k / 16] scale * sum16
};

// One column group as a kernel sees it: both forms, the quantised one absent where nobody needs it.
struct ActivationView {
  const float* x = nullptr;  // [columns, stride]
  int64_t stride = 0;
  int64_t columns = 0;
  int64_t k = 0;
  const QuantizedActivations* quantized = nullptr;
};

// True for formats whose rows, as they lie in the file, have a kernel that multiplies blocks of
// int8; rows of others are decoded to float32. Every packed matrix has one.
inline bool has_row_kernel(QuantFormat format) {
  return (format >= QuantFormat::kQ4_0 && format <= QuantFormat::kQ6_K) ||
         format == QuantFormat::kMlxAffine;
}

// True when products of this matrix read the int8 form.
inline bool needs_quantized_activations(const MatrixRef& w) {
  return w.packed || has_row_kernel(w.format);
}

// Quantises columns x[c * stride + i], i < k (a multiple of 32): symmetric int8, scale max|x| /
// 127.
void quantize_activations(const float* x, int64_t stride, int64_t columns, int64_t k,
                          QuantizedActivations& out, ThreadPool& pool);

}  // namespace mlxr::cpu
