#include "daemon/telemetry/trace.h"

#include <algorithm>

namespace mlxr {
namespace {

// A request has at least a few events, so older names would belong to nothing.
constexpr size_t kEventsPerName = 4;

}  // namespace

Trace::Trace(size_t capacity)
    : events_(capacity), names_(capacity == 0 ? 0 : capacity / kEventsPerName + 1) {}

uint16_t Trace::track(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto known = std::find(tracks_.begin(), tracks_.end(), name);
  const auto index = known - tracks_.begin();
  if (known == tracks_.end()) {
    tracks_.push_back(name);
  }
  return static_cast<uint16_t>(index);
}

uint64_t Trace::begin_request(std::string name) {
  if (!on()) {
    return 0;
  }
  const std::lock_guard lock(mutex_);
  names_[requests_ % names_.size()] = std::move(name);
  return ++requests_;
}

void Trace::add(std::span<const TraceEvent> events) {
  if (!on()) {
    return;
  }
  const std::lock_guard lock(mutex_);
  for (const TraceEvent& event : events) {
    events_[added_ % events_.size()] = event;
    ++added_;
  }
}

Trace::Snapshot Trace::snapshot() const {
  Snapshot copy;
  const std::lock_guard lock(mutex_);
  const uint64_t kept = std::min<uint64_t>(added_, events_.size());
  copy.overwritten = added_ - kept;
  copy.events.reserve(kept);
  for (uint64_t i = added_ - kept; i < added_; ++i) {
    copy.events.push_back(events_[i % events_.size()]);
  }
  copy.tracks = tracks_;
  const uint64_t named = std::min<uint64_t>(requests_, names_.size());
  for (uint64_t number = requests_ - named + 1; number <= requests_; ++number) {
    copy.requests.emplace_back(number, names_[(number - 1) % names_.size()]);
  }
  return copy;
}

}  // namespace mlxr
