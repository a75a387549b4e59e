// Who is served when, and how long a step may take: timelines on an engine that keeps its own time.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "daemon/scheduler/scheduler.h"
#include "daemon/scheduler/step_cost.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr::testing {
namespace {

GenerateRequest request(Ids prompt, int32_t max_tokens) {
  GenerateRequest r = greedy_request(std::move(prompt), max_tokens);
  r.ignore_eos = true;
  return r;
}

// An engine of 10 ms a step and 1 ms a token, whose attention makes tokens 2 ms dearer at position
// 4096; steps are recorded.
struct Timeline {
  struct Step {
    int64_t tokens = 0, answers = 0;
    double seconds = 0;
  };
  std::vector<Step> steps;

  void record(std::span<const SequenceSlice> slices) {
    Step step;
    StepLoad load;
    for (const SequenceSlice& slice : slices) {
      load.add(static_cast<int64_t>(slice.tokens.size()), slice.kv->length());
      step.answers += slice.tokens.size() == 1 ? 1 : 0;
    }
    step.tokens = static_cast<int64_t>(load.tokens);
    step.seconds = 0.01 + 0.001 * load.tokens + 5e-7 * load.attended;
    steps.push_back(step);
  }
  static HashEngineOptions engine_options() {
    return {.context = 8000, .blocks = 1500, .step = 0.01, .token = 0.001, .attended = 5e-7};
  }
};

TEST(Policy, ALongPromptHoldsRunningAnswersUpNoLongerThanTheTarget) {
  std::mt19937 random(1);
  const Ids prompt = random_prompt(random, 4096);
  Timeline timeline;
  Scheduler* self = nullptr;
  Answer long_answer;
  Gate gate;
  HashEngineOptions options = Timeline::engine_options();
  options.before_step = gate.hook([&](int32_t step, std::span<const SequenceSlice> slices) {
    if (step == 20) self->submit(request(prompt, 5), long_answer.callback());
    timeline.record(slices);
  });
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 512, .target_latency_ms = 80});
  self = &scheduler;
  std::vector<Answer> answers(4);
  for (Answer& answer : answers) {
    scheduler.submit(request(random_prompt(random, 30), 400), answer.callback());
  }
  gate.open();
  EXPECT_EQ(long_answer.wait().reason, FinishReason::kLength);
  for (Answer& answer : answers)
    EXPECT_EQ(answer.wait().tokens.size(), answer.wait().tokens.size());

  double longest = 0;
  int64_t with_prompt = 0;
  for (const Timeline::Step& step : timeline.steps) {
    if (step.answers < 4 || step.tokens <= 5) continue;
    longest = std::max(longest, step.seconds);
    ++with_prompt;
  }
  EXPECT_LE(longest, 0.088) << "the target is 80 ms";
  // Nor is the room wasted: 66 tokens fit at the beginning, 22 at the end.
  EXPECT_LE(with_prompt, 135);
  EXPECT_EQ(long_answer.tokens(), expected_tokens(prompt, 5, 8000, true));
}

TEST(Policy, ManyPromptsMayHoldAFewAnswersUpForTwoTargets) {
  std::mt19937 random(2);
  Timeline timeline;
  Scheduler* self = nullptr;
  Gate gate;
  std::vector<Answer> late(6);
  HashEngineOptions options = Timeline::engine_options();
  options.before_step = gate.hook([&](int32_t step, std::span<const SequenceSlice> slices) {
    if (step == 20) {
      for (Answer& answer : late)
        self->submit(request(random_prompt(random, 600), 5), answer.callback());
    }
    timeline.record(slices);
  });
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 512, .target_latency_ms = 80});
  self = &scheduler;
  Answer running;
  scheduler.submit(request(random_prompt(random, 30), 400), running.callback());
  gate.open();
  for (Answer& answer : late) EXPECT_EQ(answer.wait().reason, FinishReason::kLength);
  running.wait();

  double longest = 0;
  for (const Timeline::Step& step : timeline.steps) {
    if (step.answers > 0 && step.tokens > step.answers) longest = std::max(longest, step.seconds);
  }
  EXPECT_GT(longest, 0.1) << "more prompts wait than answers run";
  EXPECT_LE(longest, 0.176) << "twice the target of 80 ms";
}

TEST(Policy, AShiftHoldsTheOthersUpNoLongerThanTheTarget) {
  std::mt19937 random(10);
  Timeline timeline;
  Gate gate;
  HashEngineOptions options = Timeline::engine_options();
  options.context = 1024;
  options.before_step =
      gate.hook([&](int32_t, std::span<const SequenceSlice> slices) { timeline.record(slices); });
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 512, .target_latency_ms = 80});
  std::vector<Answer> answers(4);
  for (Answer& answer : answers) {
    scheduler.submit(request(random_prompt(random, 30), 800), answer.callback());
  }
  const Ids prompt = random_prompt(random, 900);
  GenerateRequest r = request(prompt, 400);
  r.shift = ContextShift{100};
  Answer shifting;
  scheduler.submit(r, shifting.callback());
  gate.open();
  shifting.wait();
  for (Answer& answer : answers) EXPECT_EQ(answer.wait().usage.generated_tokens, 800);
  EXPECT_EQ(shifting.tokens(),
            expected_tokens(prompt, 400, 1024, true, HashText::kRandom, ContextShift{100}));
  EXPECT_EQ(scheduler.stats().context_shifts, 1u);
  double longest = 0;
  int64_t tokens = 0;
  for (const Timeline::Step& step : timeline.steps) {
    if (step.answers < 4 || step.tokens <= 5) continue;
    longest = std::max(longest, step.seconds);
    tokens += step.tokens - 4;
  }
  // 562 tokens are left, of which 96 are found.
  EXPECT_GE(tokens, 466);
  EXPECT_LE(longest, 0.088) << "the target is 80 ms";
}

TEST(Policy, APromptAloneTakesTheWholeBatch) {
  std::mt19937 random(2);
  Timeline timeline;
  HashEngineOptions options = Timeline::engine_options();
  options.before_step = [&](int32_t, std::span<const SequenceSlice> s) { timeline.record(s); };
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 512, .target_latency_ms = 80});
  Answer answer;
  scheduler.submit(request(random_prompt(random, 2048), 1), answer.callback());
  answer.wait();
  ASSERT_EQ(timeline.steps.size(), 4u);
  for (const auto& step : timeline.steps) EXPECT_EQ(step.tokens, 512);
}

TEST(Policy, AShortPromptDoesNotWaitForTheEndOfALongOne) {
  std::mt19937 random(3);
  Timeline timeline;
  Scheduler* self = nullptr;
  Answer running, lengthy, brief;
  int64_t brief_seen = 0, lengthy_left_at_brief = 0;
  Gate gate;
  HashEngineOptions options = Timeline::engine_options();
  const Ids long_prompt = random_prompt(random, 3000), short_prompt = random_prompt(random, 40);
  options.before_step = gate.hook([&](int32_t step, std::span<const SequenceSlice> slices) {
    if (step == 5) self->submit(request(long_prompt, 1), lengthy.callback());
    if (step == 10) self->submit(request(short_prompt, 1), brief.callback());
    for (const SequenceSlice& slice : slices) {
      if (slice.kv->length() + static_cast<int64_t>(slice.tokens.size()) == 40 && step > 10) {
        brief_seen = step;
      }
      if (brief_seen == 0) lengthy_left_at_brief = 3000 - slice.kv->length();
    }
  });
  Scheduler scheduler(hash_engine(options), {});
  self = &scheduler;
  scheduler.submit(request(random_prompt(random, 30), 200), running.callback());
  gate.open();
  brief.wait();
  lengthy.wait();
  running.wait();
  EXPECT_GT(brief_seen, 10);
  EXPECT_LE(brief_seen, 14);
  EXPECT_GT(lengthy_left_at_brief, 1000);
}

// Submits requests of one token in a scheduler that runs one at a time; returns the order in which
// they were answered.
struct Item {
  std::string client;
  int32_t priority = 0;
};
std::vector<size_t> order_of(const std::vector<Item>& items) {
  std::mt19937 random(4);
  Gate gate;
  Scheduler scheduler(hash_engine({.context = 400, .before_step = gate.hook()}),
                      {.max_sequences = 1});
  Answer opener;
  scheduler.submit(request({5}, 1), opener.callback());
  gate.wait();
  std::vector<Answer> answers(items.size());
  std::vector<size_t> order;  // filled on the scheduler's thread, read after the last answer
  for (size_t i = 0; i < items.size(); ++i) {
    GenerateRequest r = request(random_prompt(random, 20), 4);
    r.client = items[i].client;
    r.priority = items[i].priority;
    scheduler.submit(std::move(r), [&, i, forward = answers[i].callback()](GenerateEvent&& event) {
      if (event.final) order.push_back(i);
      forward(std::move(event));
    });
  }
  gate.open();
  for (Answer& answer : answers) answer.wait();
  return order;
}

TEST(Policy, AClientWithManyRequestsDoesNotKeepOthersWaiting) {
  std::vector<Item> items(12, Item{"many"});
  items.push_back({"few"});
  items.push_back({"few"});
  const std::vector<size_t> expected = {0, 12, 1, 13, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EXPECT_EQ(order_of(items), expected);
}

TEST(Policy, HigherPrioritiesGoFirst) {
  const std::vector<size_t> expected = {2, 1, 3, 0, 4};
  EXPECT_EQ(order_of({{"", 0}, {"", 1}, {"", 5}, {"", 1}, {"", -1}}), expected);
}

TEST(Policy, AHigherPriorityTakesARunningPlaceAndTheOtherLosesNothing) {
  std::mt19937 random(5);
  Scheduler* self = nullptr;
  const Ids low_prompt = random_prompt(random, 50);
  GenerateRequest urgent_request = request(random_prompt(random, 50), 5);
  urgent_request.priority = 1;
  Answer low, urgent;
  int order = 0, low_at = 0, urgent_at = 0;
  const auto arrive = [&](int32_t step, std::span<const SequenceSlice>) {
    if (step != 10) return;
    self->submit(urgent_request, [&, forward = urgent.callback()](GenerateEvent&& event) {
      if (event.final) urgent_at = ++order;
      forward(std::move(event));
    });
  };
  Gate gate;
  Scheduler scheduler(hash_engine({.before_step = gate.hook(arrive)}), {.max_sequences = 1});
  self = &scheduler;
  scheduler.submit(request(low_prompt, 100), [&, forward = low.callback()](GenerateEvent&& event) {
    if (event.final) low_at = ++order;
    forward(std::move(event));
  });
  gate.open();
  low.wait();
  urgent.wait();
  EXPECT_EQ(urgent_at, 1);
  EXPECT_EQ(low_at, 2);
  EXPECT_EQ(low.tokens(), expected_tokens(low_prompt, 100, 400, true));
  EXPECT_EQ(scheduler.stats().preemptions, 1u);
}

TEST(Policy, ARequestBeyondItsTimeoutFailsAndFreesItsPlace) {
  std::mt19937 random(6);
  Gate gate;
  Scheduler scheduler(hash_engine({.step = 0.01, .before_step = gate.hook()}),
                      {.max_sequences = 1});
  GenerateRequest r = request(random_prompt(random, 20), 300);
  r.timeout = std::chrono::milliseconds(205);  // 21 steps
  Answer running, waiting, patient;
  scheduler.submit(r, running.callback());
  gate.wait();
  r.timeout = std::chrono::milliseconds(100);
  scheduler.submit(r, waiting.callback());
  scheduler.submit(request(random_prompt(random, 20), 5), patient.callback());
  gate.open();
  for (Answer* answer : {&running, &waiting}) {
    EXPECT_EQ(answer->wait().reason, FinishReason::kError);
    EXPECT_EQ(answer->wait().error_code, ErrorCode::kTimeout);
    EXPECT_NE(answer->wait().error.find(" ms"), std::string::npos);
  }
  EXPECT_NEAR(static_cast<double>(running.tokens().size()), 21, 1);
  EXPECT_TRUE(waiting.tokens().empty());
  EXPECT_EQ(patient.wait().reason, FinishReason::kLength);
  wait_for_free_blocks(scheduler);
  EXPECT_EQ(scheduler.stats().timeouts, 2u);
}

TEST(Policy, AFullQueueSaysWhenToComeBack) {
  std::mt19937 random(7);
  Scheduler* self = nullptr;
  std::vector<std::chrono::seconds> advice;
  std::vector<Answer> answers(60);
  size_t submitted = 0;
  // An answer takes 10 steps of a second; one arrives before each.
  const auto arrive = [&](int32_t step, std::span<const SequenceSlice>) {
    if (step >= 300 || submitted == answers.size()) return;
    try {
      self->submit(request(random_prompt(random, 5), 10), answers[submitted].callback());
      ++submitted;
    } catch (const QueueFull& full) {
      EXPECT_EQ(full.code(), ErrorCode::kUnavailable);
      advice.push_back(full.retry_after());
    }
  };
  Scheduler scheduler(hash_engine({.step = 1, .before_step = arrive}),
                      {.max_sequences = 1, .max_queue = 20});
  self = &scheduler;
  Answer first;
  scheduler.submit(request({5}, 10), first.callback());
  first.wait();
  while (scheduler.stats().waiting + scheduler.stats().running > 0) std::this_thread::yield();
  ASSERT_GT(advice.size(), 50u);
  EXPECT_EQ(advice.back(), std::chrono::seconds(30));  // three of the twenty have moved on
  for (size_t i = 0; i < submitted; ++i) answers[i].wait();
}

TEST(Policy, StatisticsAddUp) {
  std::mt19937 random(8);
  Scheduler scheduler(hash_engine({.step = 0.03}), {});
  const Ids prompt = random_prompt(random, 100);
  for (int i = 0; i < 2; ++i) {
    Answer answer;
    scheduler.submit(request(prompt, 10), answer.callback());
    answer.wait();
    wait_for_free_blocks(scheduler);
  }
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.requests, 2u);
  EXPECT_EQ(stats.prompt_tokens, 104u);
  EXPECT_EQ(stats.prefix_hit_tokens, 96u);
  EXPECT_EQ(stats.generated_tokens, 20u);
  EXPECT_EQ(stats.steps, 20u);
  EXPECT_EQ(stats.step_seconds.counts[5], 20u);  // above 20 ms, up to 50
  EXPECT_NEAR(stats.step_seconds.sum, 0.6, 1e-6);
  EXPECT_EQ(stats.kv_blocks_cached, 6);
  EXPECT_EQ(stats.kv_blocks_total, 100);
}

TEST(StepCost, LearnsWhatStepsTake) {
  std::mt19937 random(9);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  StepCost cost;
  const auto truth = [](const StepLoad& load) {
    return 0.02 + 0.0008 * load.tokens + 3e-7 * load.attended;
  };
  const auto run = [&](int64_t answers, int64_t chunk, int64_t position) {
    StepLoad load;
    for (int64_t i = 0; i < answers; ++i) load.add(1, position);
    if (chunk > 0) load.add(chunk, position);
    cost.measured(load, chunk > 0, truth(load) * noise(random));
  };
  for (int64_t i = 0; i < 40; ++i) run(4, i % 2 * 100, i * 50);
  for (int64_t i = 0; i < 2000; ++i) run(4, 0, i);  // answers alone do not make it forget prompts
  StepLoad base;
  for (int i = 0; i < 4; ++i) base.add(1, 2000);
  const int64_t chunk = cost.tokens_within(0.1 - cost.seconds(base), 1000);
  base.add(chunk, 1000);
  EXPECT_NEAR(truth(base), 0.1, 0.01);
}

TEST(StepCost, NeverCountsOnANegativeCost) {
  StepCost cost;
  EXPECT_EQ(cost.seconds({.tokens = 5, .attended = 5}), 0);
  for (int i = 1; i < 50; ++i) {  // steps that get faster with their size
    StepLoad load;
    load.add(i, i);
    cost.measured(load, true, 1.0 / i);
  }
  EXPECT_GE(cost.seconds({.tokens = 100, .attended = 1e6}), cost.seconds({.tokens = 1}));
  EXPECT_GE(cost.seconds({}), 0);
  EXPECT_EQ(cost.tokens_within(-1, 0), 0);
}

}  // namespace
}  // namespace mlxr::testing
