// Why models leave memory.
#pragma once

#include <array>

namespace mlxr {

enum class UnloadReason {
  kMemory,    // another one needed its memory
  kCount,     // or its place among max_loaded_models
  kIdle,      // nobody used it for its keep_alive
  kAsked,     // somebody unloaded it
  kReplaced,  // its name came to mean another file
};
inline constexpr std::array kUnloadReasons{UnloadReason::kMemory, UnloadReason::kCount,
                                           UnloadReason::kIdle, UnloadReason::kAsked,
                                           UnloadReason::kReplaced};
const char* to_string(UnloadReason reason);

}  // namespace mlxr
