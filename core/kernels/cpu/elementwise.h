// Row-wise kernels between the matrix products: RMSNorm, SwiGLU and rotary position embedding.
// One thread's share each; rows do not depend on each other.
#pragma once

#include <cstdint>

namespace mlxr::cpu {

// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], i < n (Zhang and Sennrich 2019).
void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out);

// out[i] = x[i] + y[i].
void add(const float* x, const float* y, int64_t n, float* out);

// gate[i] = silu(gate[i]) * up[i] (SwiGLU, Shazeer 2020), in place.
void swiglu(float* gate, const float* up, int64_t n);

// Rotates the first 2 * half elements of a head by cos/sin[half] (Su et al. 2021), in place.
// interleaved: pairs are (2i, 2i + 1), as GGUF's Llama stores them; else (i, i + half), as Hugging
// Face.
void rope(float* head, const float* cos, const float* sin, int64_t half, bool interleaved);

}  // namespace mlxr::cpu
