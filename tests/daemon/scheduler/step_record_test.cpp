// What the scheduler tells histograms and traces, over the engine that computes nothing.
#include "daemon/scheduler/step_record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::greedy_request;
using testing::HashEngine;
using testing::Ids;

uint64_t count(const DurationHistogram& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), uint64_t{0});
}

Ids prompt(int32_t first, size_t length) {
  Ids tokens(length);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

GenerateRequest named_request(const std::string& name, int32_t first, size_t length,
                              int32_t max_tokens) {
  GenerateRequest request = greedy_request(prompt(first, length), max_tokens);
  request.ignore_eos = true;
  request.name = name;
  return request;
}

int64_t tokens_of(const std::vector<TraceEvent>& events, TraceKind kind, uint64_t request) {
  int64_t sum = 0;
  for (const TraceEvent& event : events) {
    if (event.kind == kind && event.request == request) sum += event.tokens;
  }
  return sum;
}

TEST(StepRecord, TellsTheLivesOfRequests) {
  const auto trace = std::make_shared<Trace>(10000);
  SchedulerOptions options{.max_batch_tokens = 16, .max_sequences = 1};
  options.trace = trace;
  options.name = "m";
  SchedulerStats stats;
  std::vector<Answer> answers(3);
  testing::Gate gate;
  {
    Scheduler scheduler(
        std::make_unique<HashEngine>(testing::HashEngineOptions{.before_step = gate.hook()}),
        options);
    scheduler.submit(named_request("a", 10, 40, 5), answers[0].callback());
    scheduler.submit(named_request("b", 1000, 20, 3), answers[1].callback());
    const RequestId dropped =
        scheduler.submit(named_request("c", 2000, 20, 100), answers[2].callback());
    scheduler.cancel(dropped);  // while it waits: there is one place
    gate.open();
    for (Answer& answer : answers) answer.wait();
    scheduler.drain(std::chrono::seconds(10));
    stats = scheduler.stats();
  }
  const Trace::Snapshot snapshot = trace->snapshot();
  EXPECT_EQ(snapshot.tracks, std::vector<std::string>{"m"});
  const std::vector<std::pair<uint64_t, std::string>> names{{1, "a"}, {2, "b"}, {3, "c"}};
  EXPECT_EQ(snapshot.requests, names);
  const auto& events = snapshot.events;
  EXPECT_EQ(tokens_of(events, TraceKind::kPrefill, 1), 40);
  EXPECT_EQ(tokens_of(events, TraceKind::kDecode, 1), 4) << "the prompt's last step is the first";
  EXPECT_EQ(tokens_of(events, TraceKind::kSample, 1), 5);
  EXPECT_EQ(tokens_of(events, TraceKind::kFinish, 1), 5);
  EXPECT_EQ(tokens_of(events, TraceKind::kSample, 2), 3);
  int64_t chunks = 0;
  for (const TraceEvent& event : events) {
    EXPECT_LE(event.begin, event.end);
    chunks += event.kind == TraceKind::kPrefill && event.request == 1 ? 1 : 0;
  }
  EXPECT_GE(chunks, 3) << "40 tokens in steps of 16";
  const auto finish_of = [&](uint64_t request) {
    const auto found = std::ranges::find_if(events, [&](const TraceEvent& event) {
      return event.kind == TraceKind::kFinish && event.request == request;
    });
    return found == events.end() ? FinishReason::kError : static_cast<FinishReason>(found->detail);
  };
  EXPECT_EQ(finish_of(2), FinishReason::kLength);
  EXPECT_EQ(finish_of(3), FinishReason::kCancelled);

  EXPECT_EQ(count(stats.request_seconds), 2U) << "those that were answered";
  EXPECT_EQ(count(stats.queue_seconds), 2U);
  EXPECT_EQ(count(stats.first_token_seconds), 2U);
  EXPECT_EQ(count(stats.token_seconds), 4U + 2U);
  EXPECT_EQ(count(stats.step_seconds), stats.steps);
}

TEST(StepRecord, TellsOfAShift) {
  const auto trace = std::make_shared<Trace>(10000);
  SchedulerOptions options;
  options.trace = trace;
  Scheduler scheduler(std::make_unique<HashEngine>(testing::HashEngineOptions{.context = 64}),
                      options);
  GenerateRequest request = named_request("a", 10, 40, 50);
  request.shift = ContextShift{10};
  Answer answer;
  scheduler.submit(request, answer.callback());
  answer.wait();
  scheduler.drain(std::chrono::seconds(10));
  // After 24 tokens of the answer; 27 more would fill the window again.
  EXPECT_EQ(tokens_of(trace->snapshot().events, TraceKind::kShift, 1), 27);
}

TEST(StepRecord, CountsWithoutATrace) {
  Scheduler scheduler(std::make_unique<HashEngine>(testing::HashEngineOptions{}),
                      SchedulerOptions{});
  Answer answer;
  scheduler.submit(named_request("a", 10, 20, 4), answer.callback());
  answer.wait();
  scheduler.drain(std::chrono::seconds(10));
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(count(stats.queue_seconds), 1U);
  EXPECT_EQ(count(stats.first_token_seconds), 1U);
  EXPECT_EQ(count(stats.token_seconds), 3U);
  EXPECT_EQ(count(stats.request_seconds), 1U);
}

TEST(DurationHistogram, CountsWhatIsAtMostABound) {
  DurationHistogram histogram;
  histogram.add(0.001);
  histogram.add(0.0015, 3);
  histogram.add(1e9);
  EXPECT_EQ(histogram.counts.front(), 1U);
  EXPECT_EQ(histogram.counts[1], 3U);
  EXPECT_EQ(histogram.counts.back(), 1U);
  EXPECT_DOUBLE_EQ(histogram.sum, 0.001 + 3 * 0.0015 + 1e9);
}

}  // namespace
}  // namespace mlxr
