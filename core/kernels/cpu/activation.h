// Activation functions of feed-forward blocks, plain or times an "up" projection. One thread's
// work.
#pragma once

#include <cstdint>

namespace mlxr::cpu {

enum class Activation {
  kSilu,      // x sigmoid(x) (Elfwing et al. 2017); gated it is SwiGLU
  kGelu,      // x Phi(x), Phi of the normal distribution (Hendrycks and Gimpel 2016); gated, GeGLU
  kGeluTanh,  // its approximation x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
  kRelu,      // max(x, 0)
};

// x[i] = f(x[i]), in place, i < n. An element's result does not depend on where it stands.
void activate(Activation f, float* x, int64_t n);

// gate[i] = f(gate[i]) * up[i], in place (gated linear units, Shazeer 2020).
void activate_gated(Activation f, float* gate, const float* up, int64_t n);

}  // namespace mlxr::cpu
