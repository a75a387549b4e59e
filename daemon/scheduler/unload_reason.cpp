#include "daemon/scheduler/unload_reason.h"

namespace mlxr {

const char* to_string(UnloadReason reason) {
  switch (reason) {
    case UnloadReason::kMemory:
      return "memory";
    case UnloadReason::kCount:
      return "max_loaded_models";
    case UnloadReason::kIdle:
      return "keep_alive";
    case UnloadReason::kAsked:
      return "asked";
    case UnloadReason::kReplaced:
      return "replaced";
  }
  return "";
}

}  // namespace mlxr
