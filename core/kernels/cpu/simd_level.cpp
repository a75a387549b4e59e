#include "core/kernels/cpu/simd_level.h"

#include <cstdlib>
#include <mutex>

#include "core/base/error.h"
#include "hwy/highway.h"

namespace mlxr::cpu {
namespace {

// Better targets have lower bits: these are the named one and everything below it.
int64_t targets_up_to(const std::string& level) {
  if (level == "avx512") return ~int64_t{0};
  if (level == "avx2") return ~int64_t{HWY_AVX2 - 1};
  if (level == "generic") return HWY_EMU128 | HWY_SCALAR;
  return 0;
}

bool has_avx512_vnni() {
#if HWY_ARCH_X86
  return (hwy::SupportedTargets() & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

void choose() {
  if (!has_avx512_vnni()) hwy::DisableTargets(HWY_AVX3);
  const char* wanted = std::getenv("MLXR_SIMD");
  if (wanted == nullptr || *wanted == '\0') return;
  const std::string level = wanted;
  const int64_t targets = targets_up_to(level);
  const bool lacking = (level == "avx512" && !has_avx512_vnni()) ||
                       (level == "avx2" && !(hwy::SupportedTargets() & HWY_AVX2));
  if (targets == 0 || lacking) {
    throw Error(ErrorCode::kInvalidArgument,
                "MLXR_SIMD=" + level +
                    (lacking ? " is not supported by this processor"
                             : " is unknown; use avx512, avx2 or generic"));
  }
  hwy::DisableTargets(~targets);
}

}  // namespace

void select_simd_level() {
  static std::once_flag once;
  std::call_once(once, choose);
}

std::string simd_level() {
  select_simd_level();
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  if (usable & HWY_AVX3) return "avx512";
  return usable & HWY_AVX2 ? "avx2" : "generic";
}

}  // namespace mlxr::cpu
