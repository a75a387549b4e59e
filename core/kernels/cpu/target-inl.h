// The targets that kernels are compiled for, and what each may assume. Included once per target.
//
// HWY_AVX3 means AVX-512 with VNNI here: Highway 1.0's own AVX3_DL asks the compiler for the VEX
// form of VNNI, which processors with AVX512-VNNI alone do not have. select_simd_level() keeps
// processors without VNNI on AVX2.
//
// On 64-bit ARM Highway has one target, NEON. A file that defines MLXR_NEON_LEVEL before it
// includes kernels compiles them for more: 1 for dot products (dotprod), 2 for int8 matrix products
// too (i8mm). Its kernels lie in a namespace of their own (matmul_dotprod.cpp).

#if defined(MLXR_TARGET_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_TARGET_INL_H
#undef MLXR_TARGET_INL_H
#else
#define MLXR_TARGET_INL_H
#endif

#include "hwy/highway.h"

#ifdef MLXR_NEON_LEVEL
#undef HWY_NAMESPACE
#if MLXR_NEON_LEVEL == 2
#define HWY_NAMESPACE N_NEON_I8MM
#else
#define HWY_NAMESPACE N_NEON_DOTPROD
#endif
namespace hwy {
namespace HWY_NAMESPACE = N_NEON;  // Highway's own functions
}
#endif

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
#ifndef MLXR_NEON_LEVEL
#define MLXR_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#elif MLXR_NEON_LEVEL == 2
#define MLXR_BEFORE_NAMESPACE()                             \
  HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+crypto+dotprod+i8mm") \
  static_assert(true, "For requiring trailing semicolon")
#else
#define MLXR_BEFORE_NAMESPACE()                        \
  HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+crypto+dotprod") \
  static_assert(true, "For requiring trailing semicolon")
#endif
#endif

// What NEON kernels may use: the file's level, or what the whole build may (Apple's processors).
#undef MLXR_DOTPROD
#undef MLXR_I8MM
#if defined(MLXR_NEON_LEVEL) || defined(__ARM_FEATURE_DOTPROD)
#define MLXR_DOTPROD 1
#else
#define MLXR_DOTPROD 0
#endif
#if (defined(MLXR_NEON_LEVEL) && MLXR_NEON_LEVEL == 2) || defined(__ARM_FEATURE_MATMUL_INT8)
#define MLXR_I8MM 1
#else
#define MLXR_I8MM 0
#endif
// The interleaved kernels need vectors; without any, rows are decoded to float32.
#define MLXR_PACKED_PATH (HWY_TARGET != HWY_SCALAR)

#endif  // include guard
