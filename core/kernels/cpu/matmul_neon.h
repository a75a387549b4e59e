// Products for ARM processors with more than NEON, each level compiled in a file of its own, and
// whether a level is chosen at run time: by GCC on Linux. Elsewhere (Apple) the build's own target
// says what there is, and the NEON kernels use it.
#pragma once

#include "core/kernels/cpu/matmul.h"

#if defined(__aarch64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define MLXR_NEON_DISPATCH 1
#else
#define MLXR_NEON_DISPATCH 0
#endif

namespace mlxr::cpu {

struct NeonKernels {
  decltype(&cpu::matmul_rows) matmul_rows;
  decltype(&cpu::activation_tile) activation_tile;
};
extern const NeonKernels kNeonDotprod, kNeonI8mm;

}  // namespace mlxr::cpu
