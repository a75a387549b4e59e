#include "core/kernels/cpu/simd_level.h"

#include <array>
#include <cstdlib>

#include "core/base/error.h"
#include "core/kernels/cpu/matmul_neon.h"
#include "hwy/highway.h"

#if MLXR_NEON_DISPATCH
#include <sys/auxv.h>
#endif

namespace mlxr::cpu {
namespace {

std::string wanted_level() {
  const char* wanted = std::getenv("MLXR_SIMD");
  return wanted == nullptr ? "" : wanted;
}

[[noreturn]] void refuse(const std::string& level, const std::string& why) {
  throw Error(ErrorCode::kInvalidArgument, "MLXR_SIMD=" + level + why);
}

#if HWY_ARCH_ARM_A64
constexpr std::array<const char*, 3> kLevels = {"neon", "neon-dotprod", "neon-i8mm"};
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr size_t kLowest = 2;
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr size_t kLowest = 1;
#else
constexpr size_t kLowest = 0;
#endif

size_t highest_level() {
#if MLXR_NEON_DISPATCH
  constexpr unsigned long kDotprod = 1ul << 20, kI8mm = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
  if ((getauxval(AT_HWCAP) & kDotprod) == 0) return kLowest;
  return getauxval(AT_HWCAP2) & kI8mm ? 2 : 1;
#else
  return kLowest;
#endif
}

size_t choose() {
  const size_t highest = highest_level();
  const std::string wanted = wanted_level();
  if (wanted.empty()) return highest;
  for (size_t i = 0; i < kLevels.size(); ++i) {
    if (wanted != kLevels[i]) continue;
    if (i < kLowest) refuse(wanted, " is less than this build always uses");
    if (i > highest) refuse(wanted, " is not supported by this processor");
    return i;
  }
  refuse(wanted, " is unknown; use neon-i8mm, neon-dotprod or neon");
}

const char* chosen() {
  static const char* const level = kLevels[choose()];
  return level;
}

}  // namespace

void select_simd_level() { chosen(); }
std::string simd_level() { return chosen(); }

#else
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

std::string name_of(int64_t targets) {
  if (targets & HWY_TARGETS & HWY_AVX3) return "avx512";
  return targets & HWY_TARGETS & HWY_AVX2 ? "avx2" : "generic";
}

std::string choose() {
  int64_t targets = hwy::SupportedTargets();
  if (!has_avx512_vnni()) targets &= ~int64_t{HWY_AVX3};
  const std::string level = wanted_level();
  if (!level.empty()) {
    const int64_t wanted = targets_up_to(level);
    const bool lacking =
        (level == "avx512" && !(targets & HWY_AVX3)) || (level == "avx2" && !(targets & HWY_AVX2));
    if (wanted == 0) refuse(level, " is unknown; use avx512, avx2 or generic");
    if (lacking) refuse(level, " is not supported by this processor");
    targets &= wanted;
  }
  // The last that Highway hears of us: SupportedTargets() would choose anew, without this mask.
  hwy::DisableTargets(~targets);
  return name_of(targets);
}

const std::string& chosen() {
  static const std::string level = choose();
  return level;
}

}  // namespace

void select_simd_level() { chosen(); }
std::string simd_level() { return chosen(); }

#endif

}  // namespace mlxr::cpu
