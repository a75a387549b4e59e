// Which loaded models leave so that another one fits: arithmetic without side effects.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mlxr {

struct Resident {
  int64_t bytes = 0;
  std::chrono::steady_clock::time_point last_use;
  bool may_leave = false;  // idle, and not pinned
};

struct Eviction {
  bool fits = false;
  std::vector<size_t>
      leave;            // indices of residents, least recently used first; empty unless it fits
  int64_t missing = 0;  // bytes, when all that may leave have left
};

struct MemoryLimits {
  int64_t bytes = 0;   // 0: none
  int32_t models = 0;  // 0: any number
};

// `taken`: bytes of the residents and of whatever else counts. As few leave as the order allows.
Eviction choose_eviction(std::span<const Resident> residents, int64_t taken, int64_t wanted,
                         const MemoryLimits& limits);

}  // namespace mlxr
