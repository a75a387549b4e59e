// The products once more, with NEON's dot products (ARMv8.2 dotprod).
#include "core/kernels/cpu/matmul_neon.h"

#if MLXR_NEON_DISPATCH
#define MLXR_NEON_LEVEL 1
#include "core/kernels/cpu/matmul_target-inl.h"

namespace mlxr::cpu {

const NeonKernels kNeonDotprod = {.matmul_rows = N_NEON_DOTPROD::matmul_rows_target,
                                  .activation_tile = N_NEON_DOTPROD::activation_tile_target};

}  // namespace mlxr::cpu
#endif
