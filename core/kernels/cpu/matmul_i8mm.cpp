// The products once more, with NEON's int8 matrix products (ARMv8.6 i8mm).
#include "core/kernels/cpu/matmul_neon.h"

#if MLXR_NEON_DISPATCH
#define MLXR_NEON_LEVEL 2
#include "core/kernels/cpu/matmul_target-inl.h"

namespace mlxr::cpu {

const NeonKernels kNeonI8mm = {.matmul_rows = N_NEON_I8MM::matmul_rows_target,
                               .activation_tile = N_NEON_I8MM::activation_tile_target};

}  // namespace mlxr::cpu
#endif
