// How many requests came to which end, by route.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "daemon/telemetry/log.h"

namespace mlxr {

// Thread-safe. As many entries as routes have statuses: routes are patterns, never raw paths.
class RequestCounts {
 public:
  using Key = std::pair<std::string, int>;  // route, status

  void add(const RequestRecord& record) {
    const std::lock_guard lock(mutex_);
    ++counts_[{record.route, record.status}];
  }
  std::map<Key, uint64_t> all() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Key, uint64_t> counts_;
};

}  // namespace mlxr
