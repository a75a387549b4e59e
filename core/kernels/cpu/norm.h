// Normalisation of a row, and what stands around it. One thread's work.
//
// Order: lane i of one accumulator takes the elements i modulo the vector width, then the lanes are
// added by the target's tree, then the elements after the last whole vector.
#pragma once

#include <cstdint>

namespace mlxr::cpu {

enum class NormKind { kRms, kLayer };

// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], i < n (Zhang and Sennrich 2019). `out` may be
// x.
void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out);

// out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i] (Ba et al. 2016), the mean
// first, then what it lost to rounding, then the variance about both (Chan et al. 1983). `bias` may
// be null, `out` may be x.
void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                float* out);

}  // namespace mlxr::cpu
