#include "daemon/server/native/trace_json.h"

#include <algorithm>
#include <map>
#include <set>

#include "daemon/scheduler/generate_request.h"
#include "daemon/server/http/api_error.h"

namespace mlxr::native {
namespace {

using Time = TraceEvent::Clock::time_point;

const char* name_of(TraceKind kind) {
  switch (kind) {
    case TraceKind::kQueued:
      return "queued";
    case TraceKind::kPrefill:
      return "prefill";
    case TraceKind::kDecode:
      return "decode";
    case TraceKind::kSample:
      return "sample";
    case TraceKind::kPreempt:
      return "preempted";
    case TraceKind::kShift:
      return "shifted";
    case TraceKind::kFinish:
      return "finish";
    case TraceKind::kStep:
      break;
  }
  return "step";
}

const char* reason_name(int32_t reason) {
  switch (static_cast<FinishReason>(reason)) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      break;
  }
  return "error";
}

double microseconds(Time::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

Json arguments(const TraceEvent& event) {
  switch (event.kind) {
    case TraceKind::kStep:
      return {{"tokens", event.tokens}, {"sequences", event.detail}};
    case TraceKind::kDecode:
      return {{"tokens", event.tokens}, {"proposed", event.detail}};
    case TraceKind::kFinish:
      return {{"tokens", event.tokens}, {"reason", reason_name(event.detail)}};
    case TraceKind::kPreempt:
      return Json::object();
    default:
      return {{"tokens", event.tokens}};
  }
}

Json to_json(const TraceEvent& event) {
  const bool moment = event.kind == TraceKind::kFinish || event.kind == TraceKind::kPreempt ||
                      event.kind == TraceKind::kShift;
  Json json{{"name", name_of(event.kind)},
            {"ph", moment ? "i" : "X"},
            {"ts", microseconds(event.begin.time_since_epoch())},
            {"pid", event.track + 1},
            {"tid", event.request}};
  if (moment) {
    json["s"] = "t";
  } else {
    json["dur"] = microseconds(event.end - event.begin);
  }
  json["args"] = arguments(event);
  return json;
}

Json label(const char* kind, int pid, uint64_t tid, const std::string& name) {
  return {{"name", kind}, {"ph", "M"}, {"pid", pid}, {"tid", tid}, {"args", {{"name", name}}}};
}

// The events of one request, and the engine's steps meanwhile.
std::vector<TraceEvent> life_of(const Trace::Snapshot& snapshot, const std::string& request) {
  std::set<uint64_t> numbers;  // one for each choice
  for (const auto& [number, name] : snapshot.requests) {
    if (name == request || name.starts_with(request + "/")) {
      numbers.insert(number);
    }
  }
  Time begin = Time::max(), end = Time::min();
  for (const TraceEvent& event : snapshot.events) {
    if (numbers.contains(event.request)) {
      begin = std::min(begin, event.begin);
      end = std::max(end, event.end);
    }
  }
  std::vector<TraceEvent> chosen;
  for (const TraceEvent& event : snapshot.events) {
    const bool meanwhile = event.request == 0 && event.end >= begin && event.begin <= end;
    if (meanwhile || numbers.contains(event.request)) {
      chosen.push_back(event);
    }
  }
  if (begin == Time::max()) {
    throw RequestError({404,
                        "the trace has no request \"" + request +
                            "\": it is unknown, still waits, or was long ago (setting "
                            "trace_events)",
                        "invalid_request_error", "request", "not_in_trace"});
  }
  return chosen;
}

}  // namespace

Json chrome_trace(const Trace::Snapshot& snapshot, const std::string& request) {
  const std::vector<TraceEvent> chosen =
      request.empty() ? snapshot.events : life_of(snapshot, request);
  const std::map<uint64_t, std::string> names(snapshot.requests.begin(), snapshot.requests.end());
  Json events = Json::array();
  std::set<std::pair<uint16_t, uint64_t>> threads;
  for (const TraceEvent& event : chosen) {
    if (threads.insert({event.track, event.request}).second) {
      const auto name = names.find(event.request);
      const std::string shown = name == names.end() ? "a request" : name->second;
      events.push_back(label("thread_name", event.track + 1, event.request,
                             event.request == 0 ? "engine" : shown));
    }
    events.push_back(to_json(event));
  }
  for (size_t i = 0; i < snapshot.tracks.size(); ++i) {
    events.push_back(label("process_name", static_cast<int>(i) + 1, 0, snapshot.tracks[i]));
  }
  Json trace;
  trace["traceEvents"] = std::move(events);
  trace["displayTimeUnit"] = "ms";
  trace["otherData"] = {{"overwritten_events", snapshot.overwritten}};
  return trace;
}

}  // namespace mlxr::native
