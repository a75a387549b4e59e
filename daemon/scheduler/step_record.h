// What the scheduler notes of its steps and requests for histograms and traces,
// gathered in its own thread and handed on once a step.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "daemon/scheduler/batch.h"
#include "daemon/scheduler/running_sequence.h"
#include "daemon/scheduler/scheduler_stats.h"
#include "daemon/telemetry/trace.h"

namespace mlxr {

class StepRecord {
 public:
  using Clock = std::chrono::steady_clock;

  // `trace` may be null. `model` names its track.
  StepRecord(std::shared_ptr<Trace> trace, const std::string& model);

  // A request arrived, got its place (not always for the first time), lost it,
  // or has ended.
  void arrived(RunningSequence& s);
  void placed(RunningSequence& s, SchedulerStats& stats);
  void preempted(const RunningSequence& s);
  // So many of its tokens were dropped from a full window.
  void shifted(const RunningSequence& s, int64_t dropped);
  void ended(const RunningSequence& s, SchedulerStats& stats);

  // The engine computed this batch from `begin` until `end`.
  void computed(const Batch& batch, Clock::time_point begin, Clock::time_point end);
  // So many tokens of `s` were chosen from `begin` until now; `first`: its
  // answer's first ones.
  void accepted(RunningSequence& s, Clock::time_point begin, int32_t tokens, bool first,
                SchedulerStats& stats);
  // Hands on what was noted since the last call.
  void flush();

 private:
  void note(TraceKind kind, uint64_t request, Clock::time_point begin, Clock::time_point end,
            int64_t tokens, int64_t detail);

  std::shared_ptr<Trace> trace_;  // null where it is off
  uint16_t track_ = 0;
  std::vector<TraceEvent> events_;
};

}  // namespace mlxr
