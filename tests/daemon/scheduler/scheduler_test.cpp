// The scheduler over an engine that computes nothing (hash_engine.h). Random mixes of arrivals,
// lengths, common prefixes, clients, cancels and small arenas are compared with the answer that a
// request gets alone.
#include "daemon/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "tests/core/runtime/tokenizer/other_vocab.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr::testing {
namespace {

GenerateRequest request(Ids prompt, int32_t max_tokens) {
  return greedy_request(std::move(prompt), max_tokens);
}

TEST(Scheduler, RandomMixesAnswerAsAloneAndLeakNoBlock) {
  uint64_t preemptions = 0, hits = 0, evictions = 0, proposed = 0, accepted = 0, shifts = 0;
  const auto other = testing::fake_model_with(testing::other_tokenizer(3));
  for (uint32_t seed = 1; seed <= 32; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
    const int32_t context = 160;
    // From plenty of room to an arena that one full context fills.
    const int32_t blocks = 10 + below(40);
    SchedulerOptions options{.max_batch_tokens = 16 + below(200),
                             .max_sequences = 1 + below(12),
                             .target_latency_ms = 1 + below(100)};
    HashText text = HashText::kRandom;
    if (seed % 2 == 0) {
      text = HashText::kRepetitive;
      options.speculation = {
          .mode = seed % 4 == 0 ? SpeculationMode::kDraft : SpeculationMode::kNgram,
          .depth = {.deepest = 1 + below(12), .first_pause = 2, .longest_pause = 4}};
    }
    // Half of the engines have layers with a window, from room for one sequence's on.
    const auto some_window = [&](int32_t all) {
      KvWindow window{.tokens = 1 + below(60), .step_tokens = 16 + below(50)};
      const auto least = static_cast<int32_t>(window.most_held(16));
      window.parts = std::min(all, least + below(20));
      return below(2) == 0 ? window : KvWindow{};
    };
    // A draft that is mostly right, or has another vocabulary and writes anything, with too little
    // room for some of the sequences.
    HashEngineOptions draft_options{
        .context = context - 20, .blocks = 5 + below(40), .text = HashText::kPattern};
    draft_options.window = some_window(draft_options.blocks);
    if (seed % 8 == 0) draft_options.model = other;
    auto draft = std::make_unique<HashEngine>(draft_options);
    const Pager& draft_pager = draft->pager();
    const HashEngineOptions engine_options{.context = context,
                                           .blocks = blocks,
                                           .text = text,
                                           .window = some_window(blocks),
                                           .step = 0.01,
                                           .token = 0.001};
    Scheduler scheduler(hash_engine(engine_options), options, std::move(draft));
    struct Case {
      Ids prompt;
      int32_t max_tokens;
      bool cancel;
      std::optional<ContextShift> shift;
      Answer answer;
    };
    const std::vector<Ids> prefixes = {
        random_prompt(random, 100), random_prompt(random, 37), random_prompt(random, 16), {}};
    std::vector<std::unique_ptr<Case>> cases;
    for (int i = 0; i < 60; ++i) {
      auto c = std::make_unique<Case>();
      if (i > 0 && below(6) == 0) {
        c->prompt = cases.back()->prompt;
      } else {
        c->prompt = prefixes[random() % prefixes.size()];
        const Ids rest =
            random_prompt(random, 1 + below(149 - static_cast<uint32_t>(c->prompt.size())));
        c->prompt.insert(c->prompt.end(), rest.begin(), rest.end());
      }
      c->max_tokens = below(120);
      c->cancel = below(4) == 0;
      if (below(4) == 0) {
        c->shift = ContextShift{below(100) - 1};
        c->max_tokens *= 4;
      }
      GenerateRequest r = request(c->prompt, c->max_tokens);
      r.shift = c->shift;
      r.ignore_eos = c->shift.has_value();
      r.client = std::string(1, static_cast<char>('a' + below(3)));
      r.priority = below(8) == 0 ? 1 : 0;
      if (below(5) == 0) r.cache_salt = r.client;
      const RequestId id = scheduler.submit(std::move(r), c->answer.callback());
      if (c->cancel) {
        if (below(2) == 0) std::this_thread::sleep_for(std::chrono::microseconds(below(800)));
        scheduler.cancel(id);
      }
      cases.push_back(std::move(c));
    }
    for (const auto& c : cases) {
      const GenerateEvent& last = c->answer.wait();
      const bool endless = c->shift.has_value();
      const Ids expected =
          expected_tokens(c->prompt, c->max_tokens, context, endless, text, c->shift);
      Ids got = c->answer.tokens();
      ASSERT_NE(last.reason, FinishReason::kError) << last.error;
      if (last.reason == FinishReason::kCancelled) {
        EXPECT_TRUE(c->cancel);
        ASSERT_LE(got.size(), expected.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
      } else {
        EXPECT_EQ(got, expected) << "seed " << seed;
        EXPECT_EQ(c->answer.text(), fake_model()->tokenizer->decode(expected, true));
        EXPECT_LE(last.usage.cached_tokens, last.usage.prompt_tokens);
      }
    }
    wait_for_free_blocks(scheduler);
    const SchedulerStats stats = scheduler.stats();
    if (options.speculation.mode == SpeculationMode::kDraft) {
      EXPECT_EQ(draft_pager.free_blocks(), draft_pager.total_blocks());
      if (seed % 8 != 0) {
        EXPECT_GT(stats.accepted_tokens, 50u);
      }
      EXPECT_GT(stats.proposed_tokens, 0u);
    }
    preemptions += stats.preemptions;
    hits += stats.prefix_hit_tokens;
    evictions += stats.kv_evictions;
    shifts += stats.context_shifts;
    proposed += stats.proposed_tokens;
    accepted += stats.accepted_tokens;
  }
  EXPECT_GT(preemptions, 5u);  // how many depends on what arrives when: 20 to 60 seen
  EXPECT_GT(hits, 1000u);
  EXPECT_GT(evictions, 100u);
  EXPECT_GT(shifts, 100u);
  EXPECT_GT(accepted, 1000u);
  EXPECT_GT(proposed, accepted + 200);
}

TEST(Scheduler, StopStringsEndTheAnswerBeforeThemselves) {
  std::mt19937 random(5);
  Scheduler scheduler(hash_engine({}), {});
  int matched = 0;
  for (int i = 0; i < 30; ++i) {
    const Ids prompt = random_prompt(random, 20);
    const std::string whole =
        fake_model()->tokenizer->decode(expected_tokens(prompt, 60, 400), true);
    if (whole.size() < 20) continue;
    // A piece of the very answer, at a place that knows nothing of token borders.
    const size_t at = random() % (whole.size() - 8);
    GenerateRequest r = request(prompt, 60);
    r.stop = {"never to be seen", whole.substr(at, 1 + random() % 7)};
    const size_t first = whole.find(r.stop[1]);
    Answer answer;
    scheduler.submit(r, answer.callback());
    EXPECT_EQ(answer.wait().reason, FinishReason::kStop);
    EXPECT_EQ(answer.text(), whole.substr(0, first));
    ++matched;
  }
  EXPECT_GT(matched, 10);
}

TEST(Scheduler, RefusesWhatCannotBeAnswered) {
  Scheduler scheduler(hash_engine({.context = 64, .blocks = 16}), {.max_queue = 0});
  std::mt19937 random(6);
  const auto code = [&](GenerateRequest r) {
    try {
      scheduler.submit(std::move(r), [](GenerateEvent&&) {});
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code(request({}, 5)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(request({-1}, 5)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(request({kVocab}, 5)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(request(random_prompt(random, 64), 5)), ErrorCode::kContextOverflow);
  EXPECT_EQ(code(request({5}, 5)), ErrorCode::kUnavailable);  // no room in the queue
}

TEST(Scheduler, AnEngineThatThrowsFailsItsStepAndNoMore) {
  const auto break_once = [](int32_t step, std::span<const SequenceSlice>) {
    if (step == 2) throw Error(ErrorCode::kInternal, "the engine broke");
  };
  Scheduler scheduler(hash_engine({.context = 64, .blocks = 16, .before_step = break_once}), {});
  std::mt19937 random(7);
  Answer first, second;
  GenerateRequest r = request(random_prompt(random, 5), 30);
  r.ignore_eos = true;
  scheduler.submit(r, first.callback());
  EXPECT_EQ(first.wait().reason, FinishReason::kError);
  EXPECT_EQ(first.wait().error, "the engine broke");
  scheduler.submit(r, second.callback());
  EXPECT_EQ(second.wait().reason, FinishReason::kLength);
  EXPECT_EQ(second.tokens().size(), 30u);
}

class EngineWithABadClock : public HashEngine {
 public:
  EngineWithABadClock(HashEngineOptions options, std::atomic<bool>& fails)
      : HashEngine(std::move(options)), fails_(fails) {}
  std::chrono::steady_clock::time_point now() const override {
    if (fails_.exchange(false)) throw Error(ErrorCode::kInternal, "the clock stopped");
    return HashEngine::now();
  }

 private:
  std::atomic<bool>& fails_;
};

TEST(Scheduler, WhatThrowsBetweenStepsEndsWhoRunsAndNotTheThread) {
  std::mt19937 random(6);
  std::atomic<bool> fails = false;
  Gate gate;
  auto engine =
      std::make_unique<EngineWithABadClock>(HashEngineOptions{.before_step = gate.hook()}, fails);
  Scheduler scheduler(std::unique_ptr<StepEngine>(std::move(engine)), {.max_sequences = 2});
  Answer runs, waits, later;
  const Ids prompt = random_prompt(random, 20);
  // When the first answer ends, the scheduler asks for the time, outside a step.
  scheduler.submit(greedy_request(prompt, 2), [&](GenerateEvent&& event) { fails = event.final; });
  scheduler.submit(greedy_request(random_prompt(random, 30), 50), runs.callback());
  scheduler.submit(greedy_request(prompt, 5), waits.callback());
  gate.open();
  EXPECT_EQ(runs.wait().reason, FinishReason::kError);
  EXPECT_EQ(runs.wait().error, "the clock stopped");
  EXPECT_EQ(waits.wait().reason, FinishReason::kLength);
  scheduler.submit(greedy_request(prompt, 5), later.callback());
  later.wait();
  EXPECT_EQ(later.tokens(), waits.tokens());
  EXPECT_EQ(later.tokens(), expected_tokens(prompt, 5, 400, false));
  wait_for_free_blocks(scheduler);
}

TEST(Scheduler, DrainsAndCancelsWhatTakesTooLong) {
  Scheduler scheduler(hash_engine({.context = 100000, .blocks = 10000}), {});
  std::mt19937 random(8);
  Answer quick, endless;
  scheduler.submit(request(random_prompt(random, 5), 2), quick.callback());
  GenerateRequest r = request(random_prompt(random, 5), -1);
  r.ignore_eos = true;
  scheduler.submit(r, endless.callback());
  scheduler.drain(std::chrono::milliseconds(100));
  EXPECT_EQ(endless.wait().reason, FinishReason::kCancelled);
  EXPECT_NE(quick.wait().reason, FinishReason::kCancelled);
  EXPECT_THROW(scheduler.submit(request({5}, 5), [](GenerateEvent&&) {}), Error);
}

TEST(Scheduler, DestructionTellsEveryOwner) {
  std::mt19937 random(9);
  std::vector<std::unique_ptr<Answer>> answers;
  {
    Scheduler scheduler(hash_engine({.context = 100000, .blocks = 10000}), {.max_sequences = 2});
    for (int i = 0; i < 6; ++i) {
      GenerateRequest r = request(random_prompt(random, 5), -1);
      r.ignore_eos = true;
      answers.push_back(std::make_unique<Answer>());
      scheduler.submit(r, answers.back()->callback());
    }
  }
  for (const auto& answer : answers) EXPECT_EQ(answer->wait().reason, FinishReason::kCancelled);
}

TEST(Scheduler, LogprobsComeWithEveryToken) {
  Scheduler scheduler(hash_engine({}), {});
  GenerateRequest r = request({5, 6, 7}, 12);
  r.ignore_eos = true;
  r.n_logprobs = 3;
  std::mutex mutex;
  std::vector<GeneratedLogprob> logprobs;
  Answer answer;
  const GenerateCallback forward = answer.callback();
  scheduler.submit(r, [&](GenerateEvent&& event) {
    {
      const std::lock_guard lock(mutex);
      for (const auto& l : event.logprobs) logprobs.push_back(l);
    }
    forward(std::move(event));
  });
  answer.wait();
  const std::lock_guard lock(mutex);
  ASSERT_EQ(logprobs.size(), 12u);
  for (const auto& l : logprobs) {
    ASSERT_EQ(l.sampled.top.size(), 3u);
    EXPECT_EQ(l.sampled.top[0].token, l.sampled.token);
    EXPECT_NEAR(l.sampled.logprob, 0.0, 1e-4);  // 20 above 6143 zeros
  }
}

}  // namespace
}  // namespace mlxr::testing
