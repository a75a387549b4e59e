// Prompts whose tokens have logprobs: in chunks, among answers, preempted; and that they are those
// that the same tokens have as an answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "core/runtime/sampler/sampler.h"
#include "daemon/scheduler/scheduler.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr::testing {
namespace {

using Logits = SequenceSlice::Logits;
using Logprobs = std::vector<GeneratedLogprob>;

GenerateRequest scored(Ids prompt, int32_t max_tokens, int top = 2) {
  GenerateRequest r = greedy_request(std::move(prompt), max_tokens);
  r.n_logprobs = top;
  r.prompt_logprobs = true;
  return r;
}

// The logprobs of the prompt, and of the answer.
struct Scores {
  Logprobs prompt, answer;
  int events_with_prompt = 0;
  GenerateCallback callback(Answer& collected) {
    return [this, forward = collected.callback()](GenerateEvent&& event) {
      events_with_prompt += event.prompt_logprobs.empty() ? 0 : 1;
      prompt.insert(prompt.end(), event.prompt_logprobs.begin(), event.prompt_logprobs.end());
      answer.insert(answer.end(), event.logprobs.begin(), event.logprobs.end());
      forward(std::move(event));
    };
  }
};

// What the hash engine's logits make of them, computed without a scheduler.
void expect_scores(const Ids& prompt, const Logprobs& scores) {
  ASSERT_EQ(scores.size(), prompt.size());
  EXPECT_EQ(scores[0].sampled.token, prompt[0]);
  std::vector<float> logits(kVocab);
  for (size_t i = 1; i < prompt.size(); ++i) {
    const int32_t next = next_token(std::span(prompt).first(i));
    logits[static_cast<size_t>(next)] = 20;
    const SampledToken expected = with_logprobs(prompt[i], logits, 2);
    logits[static_cast<size_t>(next)] = 0;
    EXPECT_EQ(scores[i].sampled.token, prompt[i]);
    EXPECT_EQ(scores[i].sampled.logprob, expected.logprob);
    EXPECT_EQ(scores[i].sampled.top, expected.top);
    EXPECT_EQ(scores[i].bytes, fake_model()->tokenizer->token_bytes(prompt[i]));
  }
}

// The most rows of logits of prompts that a step was asked for.
StepHook count_rows(std::atomic<int64_t>& most) {
  return [&most](int32_t, std::span<const SequenceSlice> slices) {
    int64_t rows = 0;
    for (const SequenceSlice& slice : slices) {
      const bool all = slice.logits == Logits::kAll && slice.proposed == 0;
      rows += all ? static_cast<int64_t>(slice.tokens.size()) : 0;
    }
    most = std::max(most.load(), rows);
  };
}

TEST(PromptLogprobs, PromptsAmongAnswersGetTheirOwn) {
  std::mt19937 random(1);
  for (const int32_t blocks : {100, 26}) {  // of the few, a prompt takes most
    std::atomic<int64_t> rows = 0;
    Scheduler scheduler(hash_engine({.blocks = blocks, .before_step = count_rows(rows)}),
                        {.max_batch_tokens = 160});
    std::vector<Ids> prompts;
    for (int i = 0; i < 40; ++i) {
      // Some begin alike, and some are the same.
      Ids prompt = random_prompt(random, 1 + static_cast<int>(random() % 390));
      if (i % 5 == 4) prompt = prompts[static_cast<size_t>(i) - 4];
      if (i % 5 == 3) prompt.insert(prompt.begin(), prompts[0].begin(), prompts[0].end());
      prompt.resize(std::min<size_t>(prompt.size(), 390));
      prompts.push_back(prompt);
    }
    std::vector<Answer> answers(prompts.size());
    std::vector<Scores> scores(prompts.size());
    const auto limit_of = [](size_t i) { return static_cast<int32_t>(i % 3 * 4); };
    for (size_t i = 0; i < prompts.size(); ++i) {
      const bool plain = i % 4 == 3;
      scheduler.submit(plain ? greedy_request(prompts[i], 8) : scored(prompts[i], limit_of(i)),
                       scores[i].callback(answers[i]));
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      const GenerateEvent& end = answers[i].wait();
      EXPECT_NE(end.reason, FinishReason::kError) << end.error;
      const bool plain = i % 4 == 3;
      EXPECT_EQ(answers[i].tokens(), expected_tokens(prompts[i], plain ? 8 : limit_of(i), 400));
      EXPECT_EQ(scores[i].events_with_prompt, plain ? 0 : 1);
      if (plain) continue;
      expect_scores(prompts[i], scores[i].prompt);
      EXPECT_EQ(end.usage.cached_tokens, 0);
    }
    wait_for_free_blocks(scheduler);
    EXPECT_GT(rows, 32);
    EXPECT_LE(rows, 64);
  }
}

TEST(PromptLogprobs, OfNoAnswerAtAll) {
  Scheduler scheduler(hash_engine({}), {});
  std::mt19937 random(2);
  for (const int size : {1, 2, 64, 65, 66, 400}) {  // the last fills the window
    const Ids prompt = random_prompt(random, size);
    Answer answer;
    Scores scores;
    scheduler.submit(scored(prompt, 0), scores.callback(answer));
    const GenerateEvent& end = answer.wait();
    EXPECT_EQ(end.reason, FinishReason::kLength) << end.error;
    EXPECT_EQ(end.usage.generated_tokens, 0);
    EXPECT_EQ(end.usage.prompt_tokens, size);
    EXPECT_EQ(answer.text(), "");
    expect_scores(prompt, scores.prompt);
  }
  EXPECT_THROW(scheduler.submit(scored(random_prompt(random, 401), 0), [](GenerateEvent&&) {}),
               Error);
  EXPECT_THROW(scheduler.submit(scored(random_prompt(random, 400), 1), [](GenerateEvent&&) {}),
               Error);
}

// What is cached has no logits; what is computed for them is nobody else's.
TEST(PromptLogprobs, ShareNothing) {
  Scheduler scheduler(hash_engine({}), {});
  std::mt19937 random(3);
  const Ids prompt = random_prompt(random, 100);
  const Heard plain = ask(scheduler, greedy_request(prompt, 4));
  const uint64_t hits = scheduler.stats().prefix_hit_tokens;
  for (int i = 0; i < 2; ++i) {
    Answer answer;
    Scores scores;
    scheduler.submit(scored(prompt, 4), scores.callback(answer));
    EXPECT_EQ(answer.wait().usage.cached_tokens, 0);
    EXPECT_EQ(answer.tokens(), plain.tokens);
    expect_scores(prompt, scores.prompt);
  }
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, hits);
}

TEST(PromptLogprobs, AreThoseOfTheSameTokensAsAnAnswer) {
  std::mt19937 random(4);
  for (const int32_t batch : {16, 512}) {
    Scheduler scheduler(tiny_engine(64, KvType::kF16, 2), {.max_batch_tokens = batch});
    Ids prompt;
    for (int i = 0; i < 9; ++i) prompt.push_back(static_cast<int32_t>(300 + random() % 3000));
    GenerateRequest told = greedy_request(prompt, 150);
    told.n_logprobs = 3;
    told.ignore_eos = true;
    Answer answer;
    Scores said;
    scheduler.submit(told, said.callback(answer));
    answer.wait();
    ASSERT_EQ(said.answer.size(), 150u);
    Ids all = prompt;
    const Ids tokens = answer.tokens();
    all.insert(all.end(), tokens.begin(), tokens.end());
    Answer none;
    Scores echoed;
    scheduler.submit(scored(all, 0, 3), echoed.callback(none));
    EXPECT_EQ(none.wait().reason, FinishReason::kLength);
    ASSERT_EQ(echoed.prompt.size(), all.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      const SampledToken& one = echoed.prompt[prompt.size() + i].sampled;
      EXPECT_EQ(one.token, said.answer[i].sampled.token);
      EXPECT_EQ(one.logprob, said.answer[i].sampled.logprob) << i;
      EXPECT_EQ(one.top, said.answer[i].sampled.top) << i;
    }
  }
}

}  // namespace
}  // namespace mlxr::testing
