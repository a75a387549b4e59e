#include "daemon/scheduler/step_record.h"

#include <utility>

#include "daemon/scheduler/seconds.h"

namespace mlxr {
StepRecord::StepRecord(std::shared_ptr<Trace> trace, const std::string& model) {
  if (trace && trace->on()) {
    trace_ = std::move(trace);
    track_ = trace_->track(model);
  }
}

void StepRecord::note(TraceKind kind, uint64_t request, Clock::time_point begin,
                      Clock::time_point end, int64_t tokens, int64_t detail) {
  if (trace_) {
    events_.push_back({begin, end, request, static_cast<int32_t>(tokens),
                       static_cast<int32_t>(detail), track_, kind});
  }
}

void StepRecord::arrived(RunningSequence& s) {
  if (trace_) {
    s.set_trace_number(trace_->begin_request(s.request().name));
  }
}

void StepRecord::placed(RunningSequence& s, SchedulerStats& stats) {
  const auto now = Clock::now();
  if (s.note_place(now)) {
    stats.queue_seconds.add(seconds_between(s.arrived(), now));
    note(TraceKind::kQueued, s.trace_number(), s.arrived(), now, s.tokens(), 0);
  }
}

void StepRecord::preempted(const RunningSequence& s) {
  const auto now = Clock::now();
  note(TraceKind::kPreempt, s.trace_number(), now, now, s.tokens(), 0);
}

void StepRecord::shifted(const RunningSequence& s, int64_t dropped) {
  const auto now = Clock::now();
  note(TraceKind::kShift, s.trace_number(), now, now, dropped, 0);
}

void StepRecord::ended(const RunningSequence& s, SchedulerStats& stats) {
  const auto now = Clock::now();
  const FinishReason reason = s.end().value_or(FinishReason::kError);
  if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
    stats.request_seconds.add(seconds_between(s.arrived(), now));
  }
  note(TraceKind::kFinish, s.trace_number(), now, now, s.generated(), static_cast<int64_t>(reason));
}

void StepRecord::computed(const Batch& batch, Clock::time_point begin, Clock::time_point end) {
  if (!trace_) {
    return;
  }
  int64_t tokens = 0;
  for (size_t i = 0; i < batch.slices.size(); ++i) {
    const Batch::Member& member = batch.members[i];
    const auto computed = static_cast<int64_t>(batch.slices[i].tokens.size());
    const TraceKind kind = member.prompt ? TraceKind::kPrefill : TraceKind::kDecode;
    tokens += computed;
    note(kind, member.sequence->trace_number(), begin, end, computed, batch.slices[i].proposed);
    for (const RunningSequence* twin : member.twins) {
      note(kind, twin->trace_number(), begin, end, computed, batch.slices[i].proposed);
    }
  }
  note(TraceKind::kStep, 0, begin, end, tokens, static_cast<int64_t>(batch.slices.size()));
}

void StepRecord::accepted(RunningSequence& s, Clock::time_point begin, int32_t tokens, bool first,
                          SchedulerStats& stats) {
  const auto now = Clock::now();
  const auto before = s.note_tokens(now);
  if (first) {
    stats.first_token_seconds.add(seconds_between(s.arrived(), now));
  } else if (tokens > 0) {
    stats.token_seconds.add(seconds_between(before, now) / tokens, static_cast<uint64_t>(tokens));
  }
  note(TraceKind::kSample, s.trace_number(), begin, now, tokens, 0);
}

void StepRecord::flush() {
  if (trace_ && !events_.empty()) {
    trace_->add(events_);
    events_.clear();
  }
}

}  // namespace mlxr
