// Texts that are pooled instead of answered: in chunks, among answers, cancelled, late, preempted.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/scheduler/scheduler.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr::testing {
namespace {

using Logits = SequenceSlice::Logits;

GenerateRequest pooled(Ids text, Pooling pooling) {
  GenerateRequest r;
  r.prompt = std::move(text);
  r.pooling = pooling;
  return r;
}

// What the hash engine's states make, computed without a scheduler.
std::vector<float> expected_vector(const Ids& text, Pooling pooling) {
  Pooler pooler(pooling);
  for (size_t t = 0; t < text.size(); ++t) {
    pooler.add(static_cast<int64_t>(t), state_after(std::span(text).first(t + 1)));
  }
  return pooler.result();
}

TEST(Embedding, TextsAmongAnswersGetTheirOwnVectors) {
  constexpr Pooling kAll[] = {Pooling::kMean, Pooling::kCls, Pooling::kLast};
  std::mt19937 random(1);
  for (int32_t blocks : {100, 26}) {  // of the few, a text takes most
    Scheduler scheduler(hash_engine({.blocks = blocks}), {.max_batch_tokens = 24});
    std::vector<Ids> prompts;
    for (int i = 0; i < 60; ++i) {
      prompts.push_back(random_prompt(random, 1 + static_cast<int>(random() % 390)));
    }
    std::vector<Answer> answers(prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
      const bool answered = i % 4 == 3;
      scheduler.submit(answered ? greedy_request(prompts[i], 20) : pooled(prompts[i], kAll[i % 4]),
                       answers[i].callback());
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      const GenerateEvent& end = answers[i].wait();
      if (i % 4 == 3) {
        EXPECT_EQ(answers[i].tokens(), expected_tokens(prompts[i], 20, 400));
        EXPECT_TRUE(end.vector.empty());
        continue;
      }
      EXPECT_EQ(end.reason, FinishReason::kStop) << end.error;
      EXPECT_EQ(end.vector, expected_vector(prompts[i], kAll[i % 4])) << i;
      EXPECT_TRUE(answers[i].tokens().empty());
      EXPECT_EQ(end.usage.prompt_tokens, static_cast<int32_t>(prompts[i].size()));
      EXPECT_EQ(end.usage.generated_tokens, 0);
    }
    wait_for_free_blocks(scheduler);
  }
}

// Twins included, of which one is answered: nothing of a pooled text is shared.
TEST(Embedding, LeavesNothingBehind) {
  std::mt19937 random(2);
  const Ids text = random_prompt(random, 100);
  Scheduler scheduler(hash_engine({}), {.max_batch_tokens = 64});
  Answer first, second;
  scheduler.submit(pooled(text, Pooling::kMean), first.callback());
  scheduler.submit(pooled(text, Pooling::kMean), second.callback());
  EXPECT_EQ(first.wait().vector, expected_vector(text, Pooling::kMean));
  EXPECT_EQ(second.wait().vector, first.wait().vector);
  wait_for_free_blocks(scheduler);
  EXPECT_EQ(scheduler.stats().kv_blocks_cached, 0);
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 0u);
  EXPECT_EQ(scheduler.stats().prompt_tokens, 200u);
  Answer answer, same;
  scheduler.submit(greedy_request(text, 5), answer.callback());
  scheduler.submit(pooled(text, Pooling::kLast), same.callback());
  EXPECT_EQ(answer.wait().usage.cached_tokens, 0);
  EXPECT_EQ(answer.tokens(), expected_tokens(text, 5, 400));
  EXPECT_EQ(same.wait().vector, expected_vector(text, Pooling::kLast));
}

TEST(Embedding, IsCancelledInTheMiddleOfItsText) {
  std::mt19937 random(3);
  Gate gate;
  Scheduler scheduler(hash_engine({.before_step = gate.hook()}), {.max_batch_tokens = 16});
  Answer gone, other;
  const Ids text = random_prompt(random, 300);
  const RequestId id = scheduler.submit(pooled(text, Pooling::kMean), gone.callback());
  gate.wait();
  scheduler.cancel(id);
  scheduler.submit(pooled(text, Pooling::kMean), other.callback());
  gate.open();
  EXPECT_EQ(gone.wait().reason, FinishReason::kCancelled);
  EXPECT_TRUE(gone.wait().vector.empty());
  EXPECT_EQ(other.wait().vector, expected_vector(text, Pooling::kMean));
  wait_for_free_blocks(scheduler);
}

TEST(Embedding, HasADeadline) {
  std::mt19937 random(4);
  Scheduler scheduler(hash_engine({.step = 0.01}), {.max_batch_tokens = 16});
  GenerateRequest r = pooled(random_prompt(random, 300), Pooling::kMean);
  r.timeout = std::chrono::milliseconds(55);  // 6 steps of 19
  Answer late;
  scheduler.submit(r, late.callback());
  EXPECT_EQ(late.wait().error_code, ErrorCode::kTimeout);
  wait_for_free_blocks(scheduler);
  EXPECT_LE(scheduler.stats().steps, 8u);
}

TEST(Embedding, FillsTheWindowAndNoMore) {
  std::mt19937 random(5);
  Scheduler scheduler(hash_engine({}), {});
  Answer whole, unused;
  const Ids text = random_prompt(random, 400);
  scheduler.submit(pooled(text, Pooling::kLast), whole.callback());
  EXPECT_EQ(whole.wait().vector, expected_vector(text, Pooling::kLast));
  try {
    scheduler.submit(pooled(random_prompt(random, 401), Pooling::kLast), unused.callback());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kContextOverflow);
    EXPECT_NE(std::string(e.what()).find("401"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("400"), std::string::npos) << e.what();
  }
  GenerateRequest typed = pooled(text, Pooling::kLast);
  typed.token_types = Ids(text.size(), 1);  // it is no encoder
  EXPECT_THROW(scheduler.submit(typed, unused.callback()), Error);
}

TEST(Embedding, AnswersGoOnWithinTheTargetWhileALongTextIsRead) {
  std::mt19937 random(6);
  std::vector<double> seconds;
  Scheduler* self = nullptr;
  Answer read;
  Gate gate;
  HashEngineOptions options{.context = 8000, .blocks = 1500, .step = 0.01, .token = 0.001};
  const Ids text = random_prompt(random, 3000);
  options.before_step = gate.hook([&](int32_t step, std::span<const SequenceSlice> slices) {
    if (step == 20) self->submit(pooled(text, Pooling::kMean), read.callback());
    int64_t tokens = 0, answers = 0;
    for (const SequenceSlice& slice : slices) {
      tokens += static_cast<int64_t>(slice.tokens.size());
      answers += slice.logits == Logits::kLast ? 1 : 0;
    }
    if (answers > 0 && step > 20) seconds.push_back(0.01 + 0.001 * static_cast<double>(tokens));
  });
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 512, .target_latency_ms = 80});
  self = &scheduler;
  Answer answer;
  GenerateRequest r = greedy_request(random_prompt(random, 30), 200);
  r.ignore_eos = true;
  scheduler.submit(r, answer.callback());
  gate.open();
  EXPECT_EQ(read.wait().vector, expected_vector(text, Pooling::kMean));
  EXPECT_EQ(answer.wait().usage.generated_tokens, 200);
  ASSERT_FALSE(seconds.empty());
  EXPECT_LE(std::ranges::max(seconds), 0.088);
}

// ---- encoders ----

TEST(EncoderScheduler, ReadsTextsWholeAndSeveralInAStep) {
  std::mt19937 random(7);
  std::vector<std::vector<size_t>> steps;
  Gate gate;
  HashEngineOptions options{.encoder = true};
  const auto note = [&](std::span<const SequenceSlice> slices) {
    steps.emplace_back();
    for (const SequenceSlice& slice : slices) {
      EXPECT_EQ(slice.begin(), 0);
      EXPECT_TRUE(slice.logits == Logits::kAllStates || slice.logits == Logits::kLastState);
      steps.back().push_back(slice.tokens.size());
    }
  };
  options.before_step =
      gate.hook([&](int32_t, std::span<const SequenceSlice> slices) { note(slices); });
  Scheduler scheduler(hash_engine(options), {.max_batch_tokens = 64});
  const std::vector<size_t> lengths{10, 20, 30, 40, 300, 1, 60};
  std::vector<Answer> answers(lengths.size());
  std::vector<Ids> texts;
  for (size_t i = 0; i < lengths.size(); ++i) {
    texts.push_back(random_prompt(random, static_cast<int>(lengths[i])));
    scheduler.submit(pooled(texts[i], Pooling::kMean), answers[i].callback());
    if (i == 0) gate.wait();  // it alone has the first step, the others come together
  }
  gate.open();
  for (size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_EQ(answers[i].wait().vector, expected_vector(texts[i], Pooling::kMean)) << i;
  }
  // 300 tokens are more than a step's, so they have one of their own.
  const std::vector<std::vector<size_t>> expected{{20, 30, 1}, {40}, {300}, {60}};
  EXPECT_EQ(steps, expected);
  wait_for_free_blocks(scheduler);
}

TEST(EncoderScheduler, RefusesAnswersAndWrongTokenTypes) {
  Scheduler scheduler(hash_engine({.encoder = true}), {});
  Answer unused, typed;
  try {
    scheduler.submit(greedy_request({1, 2, 3}, 5), unused.callback());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("encoder"), std::string::npos) << e.what();
  }
  GenerateRequest r = pooled({10, 11, 12}, Pooling::kCls);
  for (const Ids& types : {Ids{0, 1}, Ids{0, 1, 2}, Ids{0, -1, 0}}) {
    r.token_types = types;
    EXPECT_THROW(scheduler.submit(r, unused.callback()), Error);
  }
  r.token_types = {0, 1, 1};
  scheduler.submit(r, typed.callback());
  EXPECT_EQ(typed.wait().vector, expected_vector({10, 11, 12}, Pooling::kCls));
}

// ---- a real model ----

TEST(Embedding, ARealModelGivesTheBitsOfOneStep) {
  const Ids text = [] {
    std::mt19937 random(8);
    return random_prompt(random, 150);
  }();
  const auto alone = [&](Pooling pooling) {
    const auto one = tiny_engine(40, KvType::kF16, 1);
    KvSequence kv = one->new_sequence();
    const SequenceSlice slice{.kv = &kv, .tokens = text, .logits = Logits::kAllStates};
    const StepLogits states = one->step(std::span(&slice, 1));
    Pooler pooler(pooling);
    for (int32_t t = 0; t < states.state_rows(); ++t) pooler.add(t, states.state(t));
    return pooler.result();
  };
  Scheduler scheduler(tiny_engine(40, KvType::kF16, 2), {.max_batch_tokens = 37});
  Answer mean, last, answer;
  scheduler.submit(greedy_request({5, 6, 7, 8}, 100), answer.callback());
  scheduler.submit(pooled(text, Pooling::kMean), mean.callback());
  scheduler.submit(pooled(text, Pooling::kLast), last.callback());
  EXPECT_EQ(mean.wait().vector, alone(Pooling::kMean));
  EXPECT_EQ(last.wait().vector, alone(Pooling::kLast));
  answer.wait();
  wait_for_free_blocks(scheduler);
}

}  // namespace
}  // namespace mlxr::testing
