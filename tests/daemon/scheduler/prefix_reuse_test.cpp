// What the scheduler does not compute, because it was computed before or is being computed for
// another request. Counted in tokens, on an engine that checks what each sequence attends to.
#include <gtest/gtest.h>

#include <random>

#include "daemon/scheduler/scheduler.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr::testing {
namespace {

GenerateRequest request(Ids prompt, int32_t max_tokens) {
  GenerateRequest r = greedy_request(std::move(prompt), max_tokens);
  r.ignore_eos = true;
  return r;
}

Ids operator+(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(PrefixReuse, AGrowingChatComputesItsNewTokensOnly) {
  Scheduler scheduler(hash_engine({.context = 1000}), {});
  std::mt19937 random(1);
  Ids chat = random_prompt(random, 100);
  int64_t stored = 0;
  for (int turn = 0; turn < 6; ++turn) {
    const uint64_t before = scheduler.stats().prompt_tokens;
    Answer answer;
    scheduler.submit(request(chat, 30), answer.callback());
    const GenerateUsage usage = answer.wait().usage;
    wait_for_free_blocks(scheduler);
    const auto length = static_cast<int64_t>(chat.size());
    EXPECT_EQ(usage.cached_tokens, stored / 16 * 16) << "turn " << turn;
    EXPECT_EQ(static_cast<int64_t>(scheduler.stats().prompt_tokens - before),
              length - stored / 16 * 16);
    EXPECT_EQ(answer.tokens(), expected_tokens(chat, 30, 1000, true));
    stored = length + 29;  // nobody needed the last token's keys
    chat = chat + answer.tokens() + random_prompt(random, 20);
  }
}

// As in Gemma: the window is much shorter than the chat, and has room for three chats at most.
TEST(PrefixReuse, AGrowingChatOfAModelWithWindowsDoesToo) {
  Scheduler scheduler(hash_engine({.context = 1000,
                                   .blocks = 200,
                                   .window = {.tokens = 50, .parts = 20, .step_tokens = 32}}),
                      {});
  std::mt19937 random(1);
  std::vector<Ids> chats = {random_prompt(random, 300), random_prompt(random, 100)};
  std::vector<int64_t> stored(chats.size(), 0);
  for (int turn = 0; turn < 6; ++turn) {
    for (size_t i = 0; i < chats.size(); ++i) {
      Answer answer;
      scheduler.submit(request(chats[i], 30), answer.callback());
      EXPECT_EQ(answer.wait().usage.cached_tokens, stored[i] / 16 * 16) << turn << " " << i;
      wait_for_free_blocks(scheduler);
      EXPECT_EQ(answer.tokens(), expected_tokens(chats[i], 30, 1000, true));
      stored[i] = static_cast<int64_t>(chats[i].size()) + 29;
      chats[i] = chats[i] + answer.tokens() + random_prompt(random, 20);
    }
  }
}

TEST(PrefixReuse, ACancelledPromptKeepsItsBlocksForTheNextTry) {
  Scheduler* self = nullptr;
  RequestId id = 0;
  Gate gate;
  const auto cancel = [&](int32_t step, std::span<const SequenceSlice>) {
    if (step == 3) self->cancel(id);
  };
  Scheduler scheduler(hash_engine({.before_step = gate.hook(cancel)}), {.max_batch_tokens = 32});
  self = &scheduler;
  std::mt19937 random(2);
  const Ids prompt = random_prompt(random, 300);
  Answer opener, first, second;
  scheduler.submit(request({5}, 1), opener.callback());
  gate.wait();
  id = scheduler.submit(request(prompt, 5), first.callback());
  gate.open();
  EXPECT_EQ(first.wait().reason, FinishReason::kCancelled);
  wait_for_free_blocks(scheduler);
  scheduler.submit(request(prompt, 5), second.callback());
  EXPECT_EQ(second.wait().usage.cached_tokens, 96);  // steps 1 to 3
  EXPECT_EQ(second.tokens(), expected_tokens(prompt, 5, 400, true));
}

TEST(PrefixReuse, TwinsThatArriveTogetherAreComputedOnce) {
  std::mt19937 random(3);
  const Ids prompt = random_prompt(random, 150);
  std::vector<Answer> answers(8);
  Gate gate;
  Scheduler scheduler(hash_engine({.blocks = 300, .before_step = gate.hook()}),
                      {.max_batch_tokens = 64});
  Answer opener;
  scheduler.submit(request({5}, 1), opener.callback());
  gate.wait();
  for (Answer& answer : answers) scheduler.submit(request(prompt, 40), answer.callback());
  gate.open();
  for (Answer& answer : answers) {
    answer.wait();
    EXPECT_EQ(answer.tokens(), expected_tokens(prompt, 40, 400, true));
  }
  wait_for_free_blocks(scheduler);
  EXPECT_EQ(scheduler.stats().prompt_tokens, 1 + 150u);
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 7 * 150u);
}

TEST(PrefixReuse, ACommonPrefixIsComputedOnceAndTheRestApart) {
  std::mt19937 random(4);
  const Ids prefix = random_prompt(random, 160);
  Gate gate;
  Scheduler scheduler(hash_engine({.blocks = 300, .before_step = gate.hook()}),
                      {.max_batch_tokens = 64});
  Answer opener;
  scheduler.submit(request({5}, 1), opener.callback());
  gate.wait();
  std::vector<Ids> prompts;
  std::vector<Answer> answers(8);
  for (Answer& answer : answers) {
    prompts.push_back(prefix + random_prompt(random, 10));
    scheduler.submit(request(prompts.back(), 40), answer.callback());
  }
  gate.open();
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].wait();
    EXPECT_EQ(answers[i].tokens(), expected_tokens(prompts[i], 40, 400, true));
  }
  wait_for_free_blocks(scheduler);
  EXPECT_EQ(scheduler.stats().prompt_tokens, 1 + 160u + 8 * 10);
}

TEST(PrefixReuse, ClientsWithTheirOwnSaltShareNothing) {
  std::mt19937 random(5);
  const Ids prompt = random_prompt(random, 100);
  Scheduler scheduler(hash_engine({}), {});
  for (const char* salt : {"a", "b", "a"}) {
    Answer answer;
    GenerateRequest r = request(prompt, 3);
    r.cache_salt = salt;
    scheduler.submit(std::move(r), answer.callback());
    answer.wait();
  }
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 96u);
}

TEST(PrefixReuse, APreemptedAnswerGoesOnFromItsBlocks) {
  // Two answers of 100 + 200 tokens outgrow 32 blocks; the younger waits, and finds most of its own
  // blocks again.
  std::mt19937 random(6);
  Gate gate;
  Scheduler scheduler(hash_engine({.blocks = 32, .before_step = gate.hook()}), {});
  const Ids a = random_prompt(random, 100), b = random_prompt(random, 100);
  Answer first, second;
  scheduler.submit(request(a, 200), first.callback());
  scheduler.submit(request(b, 200), second.callback());
  gate.open();
  EXPECT_EQ(first.wait().usage.cached_tokens, 0);
  EXPECT_EQ(second.wait().usage.cached_tokens, 0);  // its own work is no gift
  EXPECT_EQ(first.tokens(), expected_tokens(a, 200, 400, true));
  EXPECT_EQ(second.tokens(), expected_tokens(b, 200, 400, true));
  wait_for_free_blocks(scheduler);
  EXPECT_GE(scheduler.stats().preemptions, 1u);
  EXPECT_EQ(scheduler.stats().prompt_tokens, 200u);
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 0u);
  EXPECT_LT(scheduler.stats().recomputed_tokens, 100u);
}

}  // namespace
}  // namespace mlxr::testing
