#include "daemon/scheduler/eviction.h"

#include <algorithm>

namespace mlxr {

Eviction choose_eviction(std::span<const Resident> residents, int64_t taken, int64_t wanted,
                         const MemoryLimits& limits) {
  std::vector<size_t> order;
  for (size_t i = 0; i < residents.size(); ++i) {
    if (residents[i].may_leave) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) { return residents[i].last_use; });
  int64_t bytes = taken + wanted;
  auto models = static_cast<int64_t>(residents.size()) + 1;
  const auto too_many = [&] { return limits.models > 0 && models > limits.models; };
  const auto too_large = [&] { return limits.bytes > 0 && bytes > limits.bytes; };
  Eviction eviction;
  for (const size_t i : order) {
    if (!too_many() && !too_large()) break;
    // One that takes nothing makes no room.
    if (!too_many() && residents[i].bytes == 0) continue;
    eviction.leave.push_back(i);
    bytes -= residents[i].bytes;
    --models;
  }
  eviction.fits = !too_many() && !too_large();
  if (!eviction.fits) eviction.leave.clear();
  eviction.missing = too_large() ? bytes - limits.bytes : 0;
  return eviction;
}

}  // namespace mlxr
