// What requests and steps did lately, in a ring of fixed size: always recorded, so that one can ask
// after something was slow. Costs some nanoseconds an event (bench/telemetry_bench.cpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxr {

enum class TraceKind : uint8_t {
  kQueued,   // from the request's arrival until it gets its place
  kPrefill,  // a chunk of its prompt is computed
  kDecode,   // its next tokens are computed
  kSample,   // they are chosen, turned into text and sent
  kPreempt,  // it gives its place up (a moment)
  kShift,    // tokens are dropped from its full window (a moment)
  kFinish,   // it ends (a moment)
  kStep,     // of the engine: everybody's part of one pass
};

struct TraceEvent {
  using Clock = std::chrono::steady_clock;

  Clock::time_point begin, end;
  uint64_t request = 0;  // a number that begin_request gave; 0: the engine itself
  int32_t tokens = 0;
  int32_t detail = 0;  // of kStep its sequences, of kFinish a FinishReason, of kDecode what was
                       // proposed
  uint16_t track = 0;
  TraceKind kind = TraceKind::kStep;
};

// Thread-safe.
class Trace {
 public:
  // Keeps the last `capacity` events; 0: none, and every call here does nothing.
  explicit Trace(size_t capacity);

  bool on() const { return !events_.empty(); }

  // A line of the picture for each model; the same for the same name.
  uint16_t track(const std::string& name);
  // A number for a request, which the snapshot gives its name.
  uint64_t begin_request(std::string name);
  void add(std::span<const TraceEvent> events);
  void add(const TraceEvent& event) { add(std::span(&event, 1)); }

  struct Snapshot {
    std::vector<TraceEvent> events;  // oldest first, by when they were added
    std::vector<std::string> tracks;
    std::vector<std::pair<uint64_t, std::string>> requests;  // the latest ones, by number
    uint64_t overwritten = 0;                                // events that are gone
  };
  Snapshot snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::vector<TraceEvent> events_;
  uint64_t added_ = 0;
  std::vector<std::string> tracks_;
  std::vector<std::string> names_;  // of request n at (n - 1) % size
  uint64_t requests_ = 0;
};

}  // namespace mlxr
