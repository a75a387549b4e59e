// The normalisation of a row as the primitives hold it.
#pragma once

#include <optional>

#include "core/kernels/cpu/norm.h"
#include "mlx/array.h"

namespace mlxr {

// `weight` and `bias` (LayerNorm's, where it has one) are float32 [n].
struct NormWeight {
  cpu::NormKind kind = cpu::NormKind::kRms;
  float eps = 0;
  mlx::core::array weight;
  std::optional<mlx::core::array> bias;
};

// One row of n; `out` may be x.
inline void norm_row(const NormWeight& norm, const float* x, int64_t n, float* out) {
  const auto* weight = norm.weight.data<float>();
  if (norm.kind == cpu::NormKind::kRms) return cpu::rms_norm(x, weight, norm.eps, n, out);
  const float* bias = norm.bias ? norm.bias->data<float>() : nullptr;
  cpu::layer_norm(x, weight, bias, norm.eps, n, out);
}

}  // namespace mlxr
