// The ring of trace events, and how Chrome's format shows it.
#include "daemon/telemetry/trace.h"

#include <gtest/gtest.h>

#include <thread>

#include "daemon/scheduler/scheduler.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/native/trace_json.h"

namespace mlxr {
namespace {

using Time = TraceEvent::Clock::time_point;

Time at(int64_t milliseconds) { return Time(std::chrono::milliseconds(milliseconds)); }

TraceEvent event(TraceKind kind, uint64_t request, int64_t begin, int64_t end, int32_t tokens = 1,
                 int32_t detail = 0) {
  return {at(begin), at(end), request, tokens, detail, 0, kind};
}

TEST(Trace, KeepsTheLatestEvents) {
  Trace trace(3);
  EXPECT_TRUE(trace.on());
  for (int32_t i = 0; i < 5; ++i) trace.add(event(TraceKind::kDecode, 1, i, i + 1, i));
  const Trace::Snapshot snapshot = trace.snapshot();
  ASSERT_EQ(snapshot.events.size(), 3U);
  for (int32_t i = 0; i < 3; ++i) EXPECT_EQ(snapshot.events[static_cast<size_t>(i)].tokens, i + 2);
  EXPECT_EQ(snapshot.overwritten, 2U);
}

TEST(Trace, WithoutRoomItKeepsNothing) {
  Trace trace(0);
  EXPECT_FALSE(trace.on());
  EXPECT_EQ(trace.begin_request("a"), 0U);
  trace.add(event(TraceKind::kStep, 0, 0, 1));
  EXPECT_TRUE(trace.snapshot().events.empty());
}

TEST(Trace, NamesRequestsAndTracks) {
  Trace trace(4);  // room for two names
  EXPECT_EQ(trace.track("a"), 0);
  EXPECT_EQ(trace.track("b"), 1);
  EXPECT_EQ(trace.track("a"), 0) << "a model that is loaded again";
  EXPECT_EQ(trace.begin_request("one"), 1U);
  EXPECT_EQ(trace.begin_request("two"), 2U);
  EXPECT_EQ(trace.begin_request("three"), 3U);
  const Trace::Snapshot snapshot = trace.snapshot();
  EXPECT_EQ(snapshot.tracks, (std::vector<std::string>{"a", "b"}));
  const std::vector<std::pair<uint64_t, std::string>> names{{2, "two"}, {3, "three"}};
  EXPECT_EQ(snapshot.requests, names);
}

TEST(Trace, ManyThreadsMayAdd) {
  Trace trace(1000);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&trace] {
      for (int n = 0; n < 200; ++n) {
        trace.begin_request("r");
        trace.add(event(TraceKind::kDecode, 1, n, n));
        if (n % 50 == 0) trace.snapshot();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(trace.snapshot().events.size(), 800U);
  EXPECT_EQ(trace.begin_request("last"), 801U);
}

// Two requests: the first is over before the second begins.
Trace::Snapshot two_lives() {
  Trace trace(100);
  trace.track("m");
  trace.begin_request("req_1");
  trace.begin_request("req_1/1");
  trace.begin_request("req_2");
  trace.add(event(TraceKind::kQueued, 1, 0, 2));
  trace.add(event(TraceKind::kPrefill, 1, 2, 5, 9));
  trace.add(event(TraceKind::kPrefill, 2, 2, 5, 9));
  trace.add(event(TraceKind::kStep, 0, 2, 5, 18, 2));
  trace.add(event(TraceKind::kSample, 1, 5, 6));
  trace.add(event(TraceKind::kFinish, 1, 6, 6, 1, static_cast<int32_t>(FinishReason::kLength)));
  trace.add(event(TraceKind::kDecode, 3, 10, 11, 3, 2));
  trace.add(event(TraceKind::kStep, 0, 10, 11));
  return trace.snapshot();
}

Json named(const Json& trace, const std::string& name) {
  Json found = Json::array();
  for (const Json& one : trace["traceEvents"]) {
    if (one["name"] == name) found.push_back(one);
  }
  return found;
}

TEST(ChromeTrace, ShowsEventsOnTheirThreads) {
  const Json trace = native::chrome_trace(two_lives(), "");
  const Json prefill = named(trace, "prefill");
  ASSERT_EQ(prefill.size(), 2U);
  EXPECT_EQ(prefill[0]["ph"], "X");
  EXPECT_EQ(prefill[0]["ts"], 2000);
  EXPECT_EQ(prefill[0]["dur"], 3000);
  EXPECT_EQ(prefill[0]["pid"], 1);
  EXPECT_EQ(prefill[0]["tid"], 1);
  EXPECT_EQ(prefill[0]["args"]["tokens"], 9);
  EXPECT_EQ(named(trace, "decode")[0]["args"]["proposed"], 2);
  const Json finish = named(trace, "finish");
  EXPECT_EQ(finish[0]["ph"], "i");
  EXPECT_EQ(finish[0]["args"]["reason"], "length");
  EXPECT_EQ(named(trace, "step")[0]["args"]["sequences"], 2);
  std::set<std::string> threads;
  for (const Json& one : named(trace, "thread_name")) threads.insert(one["args"]["name"]);
  EXPECT_EQ(threads, (std::set<std::string>{"engine", "req_1", "req_1/1", "req_2"}));
  EXPECT_EQ(named(trace, "process_name")[0]["args"]["name"], "m");
  EXPECT_EQ(trace["otherData"]["overwritten_events"], 0);
}

TEST(ChromeTrace, OfOneRequestIsItsLifeAndTheStepsMeanwhile) {
  const Json trace = native::chrome_trace(two_lives(), "req_1");
  EXPECT_EQ(named(trace, "queued").size(), 1U);
  EXPECT_EQ(named(trace, "prefill").size(), 2U) << "both choices";
  EXPECT_EQ(named(trace, "step").size(), 1U);
  EXPECT_EQ(named(trace, "decode").size(), 0U);
  try {
    native::chrome_trace(two_lives(), "req_");
    FAIL() << "a name that is only the beginning of others";
  } catch (const RequestError& error) {
    EXPECT_EQ(error.error().status, 404);
  }
}

}  // namespace
}  // namespace mlxr
