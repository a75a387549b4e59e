// The instruction set that kernels run on, chosen once. MLXR_SIMD in the environment lowers it, so
// that every level can be tested on one machine.
#pragma once

#include <string>

namespace mlxr::cpu {

// Idempotent and cheap after the first call. Throws Error{kInvalidArgument} for a level that this
// machine or build lacks.
void select_simd_level();

// "avx512" (with VNNI), "avx2" or "generic"; on ARM "neon-i8mm", "neon-dotprod" or "neon".
std::string simd_level();

}  // namespace mlxr::cpu
