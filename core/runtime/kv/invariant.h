// For the checks of invariants that tests run.
#pragma once

#include <cstddef>
#include <string>

#include "core/base/error.h"

namespace mlxr {

// Throws Error{kInternal} naming who checked and what does not hold of a block.
inline void must_hold(bool holds, const char* checked, const char* invariant, size_t block) {
  if (holds) return;
  throw Error(ErrorCode::kInternal, "[" + std::string(checked) + "::check] block " +
                                        std::to_string(block) + ": " + invariant);
}

}  // namespace mlxr
