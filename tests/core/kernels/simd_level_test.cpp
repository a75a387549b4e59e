// That kernels run on the instruction set that is named. Each target's copy of a function says
// which it is.
#include "core/kernels/cpu/simd_level.h"

#include <gtest/gtest.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/core/kernels/simd_level_test.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

const char* name_of_target() {
  return HWY_TARGET <= HWY_AVX3 ? "avx512" : HWY_TARGET <= HWY_AVX2 ? "avx2" : "generic";
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE && HWY_ARCH_X86
namespace mlxr::cpu {
namespace {

HWY_EXPORT(name_of_target);

// Asking for the name once made Highway choose anew, without what MLXR_SIMD had forbidden: `mlx`
// ran on AVX-512 whatever it said.
TEST(SimdLevel, KernelsRunOnTheLevelThatIsNamed) {
  for (int i = 0; i < 3; ++i) {
    const std::string named = simd_level();
    EXPECT_EQ(HWY_DYNAMIC_DISPATCH(name_of_target)(), named);
  }
}

}  // namespace
}  // namespace mlxr::cpu
#endif
