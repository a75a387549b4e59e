// The targets that kernels are compiled for, and what each may assume. Included once per target.
//
// HWY_AVX3 means AVX-512 with VNNI here: Highway 1.0's own AVX3_DL asks the compiler for the VEX
// form of VNNI, which processors with AVX512-VNNI alone do not have. select_simd_level() keeps
// processors without VNNI on AVX2.

#if defined(MLXR_TARGET_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_TARGET_INL_H
#undef MLXR_TARGET_INL_H
#else
#define MLXR_TARGET_INL_H
#endif

#include "hwy/highway.h"

#undef MLXR_VECTOR_PATH
#undef MLXR_VNNI
#undef MLXR_BEFORE_NAMESPACE
#undef MLXR_PACKED_PATH
#if HWY_TARGET == HWY_AVX3
#define MLXR_VECTOR_PATH 1
#define MLXR_VNNI 1
#define MLXR_BEFORE_NAMESPACE()                     \
  HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni") \
  static_assert(true, "For requiring trailing semicolon")
#else
#define MLXR_VECTOR_PATH (HWY_TARGET == HWY_AVX2)
#define MLXR_VNNI 0
#define MLXR_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#endif
// The interleaved kernels need vectors; without any, rows are decoded to float32.
#define MLXR_PACKED_PATH (HWY_TARGET != HWY_SCALAR)

#endif  // include guard
