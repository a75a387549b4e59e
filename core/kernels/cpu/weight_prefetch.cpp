#include "core/kernels/cpu/weight_prefetch.h"

namespace mlxr::cpu {

int64_t weight_prefetch() {
#if defined(__x86_64__)
  static const int64_t ahead = __builtin_cpu_is("intel") ? 4096 : 0;
  return ahead;
#else
  return 0;
#endif
}

}  // namespace mlxr::cpu
