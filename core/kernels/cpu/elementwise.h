// Row-wise kernels around the matrix products: sums, factors, caps and rotary position embedding.
// One thread's share each; rows do not depend on each other.
#pragma once

#include <cstdint>

namespace mlxr::cpu {

// out[i] = x[i] + y[i], i < n.
void add(const float* x, const float* y, int64_t n, float* out);

// out[i] += factor * x[i], the product rounded first.
void add_scaled(const float* x, float factor, int64_t n, float* out);

// x[i] *= factor.
void scale(float* x, float factor, int64_t n);

// x[i] = cap * tanh(x[i] / cap), in place.
void soft_cap(float* x, float cap, int64_t n);

// Rotates the first 2 * half elements of a head by cos/sin[half] (Su et al. 2021), in place.
// interleaved: pairs are (2i, 2i + 1), as GGUF's Llama stores them; else (i, i + half), as Hugging
// Face.
void rope(float* head, const float* cos, const float* sin, int64_t half, bool interleaved);

}  // namespace mlxr::cpu
