// Answers that outgrow the context window: what follows a shift is what a fresh request for the
// tokens that are left gets.
#include "daemon/scheduler/context_shift.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "core/runtime/constraint/constraint.h"
#include "core/runtime/sampler/random.h"
#include "daemon/scheduler/scheduler.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr::testing {
namespace {

GenerateRequest request(Ids prompt, int32_t max_tokens, ContextShift shift) {
  GenerateRequest r = greedy_request(std::move(prompt), max_tokens);
  r.ignore_eos = true;
  r.shift = shift;
  return r;
}

TEST(ContextShift, DropsTheOlderHalfOfWhatIsNotKept) {
  const auto dropped = [](size_t window, size_t keep) {
    const DroppedTokens d = dropped_by_shift(window, keep);
    return std::pair(d.begin, d.count);
  };
  EXPECT_EQ(dropped(100, 0), std::pair(size_t{0}, size_t{50}));
  EXPECT_EQ(dropped(101, 20), std::pair(size_t{20}, size_t{40}));
  EXPECT_EQ(dropped(100, 98), std::pair(size_t{98}, size_t{1}));
  EXPECT_EQ(dropped(100, 5000), std::pair(size_t{98}, size_t{1}));
  EXPECT_EQ(dropped(2, 1), std::pair(size_t{0}, size_t{1}));
}

// The same answer from fresh requests, one for each time that the window was full.
Heard in_stretches(Scheduler& scheduler, GenerateRequest r, int32_t window) {
  const ContextShift shift = *std::exchange(r.shift, std::nullopt);
  const size_t prompt = r.prompt.size();
  Heard all;
  for (int32_t left = r.max_tokens; left > 0;) {
    r.max_tokens = left;
    const Heard part = ask(scheduler, r);
    all.tokens.insert(all.tokens.end(), part.tokens.begin(), part.tokens.end());
    all.logprobs.insert(all.logprobs.end(), part.logprobs.begin(), part.logprobs.end());
    all.reason = part.reason;
    all.generated += part.generated;
    left -= part.generated;
    r.prompt.insert(r.prompt.end(), part.tokens.begin(), part.tokens.end());
    if (part.reason != FinishReason::kLength || left == 0) break;
    EXPECT_EQ(r.prompt.size(), static_cast<size_t>(window));
    r.prompt = shifted(r.prompt, prompt, shift);
    if (r.sampling.seed) r.sampling.seed = next_seed(*r.sampling.seed);
  }
  return all;
}

void expect_same(const Heard& heard, const Heard& expected) {
  EXPECT_EQ(heard.tokens, expected.tokens);
  EXPECT_EQ(heard.logprobs, expected.logprobs);
  EXPECT_EQ(heard.reason, expected.reason);
  EXPECT_EQ(heard.generated, expected.generated);
}

Ids tale() {
  return tiny_model()->tokenizer->encode(
      "The fox said: run, run, run. The hare said: run, run, run. The fox said: run,", false,
      false);
}

std::vector<GenerateRequest> requests_of_all_kinds() {
  std::vector<GenerateRequest> all;
  const auto add = [&](int32_t keep, const auto& change) {
    all.push_back(request(tale(), 400, {keep}));
    all.back().sampling.seed = 11;
    change(all.back());
  };
  add(0, [](GenerateRequest&) {});
  add(5, [](GenerateRequest& r) { r.n_logprobs = 2; });
  add(1000, [](GenerateRequest& r) { r.ignore_eos = false; });
  add(-1, [](GenerateRequest& r) { r.sampling.temperature = 1; });
  add(17, [](GenerateRequest& r) {
    r.sampling.temperature = 0.7f;
    r.n_logprobs = 0;
  });
  add(17, [](GenerateRequest& r) {  // looks back over the window
    r.sampling.repeat_penalty = 1.2f;
    r.sampling.frequency_penalty = 0.1f;
    r.sampling.penalty_last_n = -1;
  });
  add(0, [](GenerateRequest& r) {
    r.sampling.dry_multiplier = 0.8f;
    r.sampling.temperature = 1;
  });
  return all;
}

// With a draft, whether it has another vocabulary.
class ShiftModes : public ::testing::TestWithParam<std::pair<SpeculationMode, bool>> {};

TEST_P(ShiftModes, GoesOnAsFreshRequestsWithTheTokensThatAreLeft) {
  Scheduler plain(tiny_engine(40, KvType::kF16, 1), {});
  const auto [mode, other] = GetParam();
  const SpeculationOptions speculation{
      .mode = mode, .depth = {.deepest = 6, .first_pause = 1, .longest_pause = 1}};
  Scheduler shifting(tiny_engine(40, KvType::kF16, 1),
                     {.max_batch_tokens = 50, .speculation = speculation},
                     tiny_engine(40, KvType::kF16, 1,
                                 other ? testing::tiny_model_with_other_vocab(0) : tiny_model()));
  for (const GenerateRequest& r : requests_of_all_kinds()) {
    const Heard heard = ask(shifting, r);
    expect_same(heard, in_stretches(plain, r, kContext));
    EXPECT_EQ(heard.text, tiny_model()->tokenizer->decode(heard.tokens, true));
  }
  wait_for_free_blocks(shifting);
  EXPECT_GT(shifting.stats().context_shifts, 15u);
  EXPECT_EQ(plain.stats().context_shifts, 0u);
  if (mode != SpeculationMode::kOff) {
    EXPECT_GT(shifting.stats().accepted_tokens, 100u);
  }
}

INSTANTIATE_TEST_SUITE_P(ContextShift, ShiftModes,
                         ::testing::Values(std::pair(SpeculationMode::kOff, false),
                                           std::pair(SpeculationMode::kNgram, false),
                                           std::pair(SpeculationMode::kDraft, false),
                                           std::pair(SpeculationMode::kDraft, true)));

// Mirostat's state is the answer's: it makes a difference beside fresh requests, none by
// speculation.
TEST(ContextShift, MirostatGoesOn) {
  GenerateRequest r = request(tale(), 300, {4});
  r.sampling.temperature = 1;
  r.sampling.mirostat = 2;
  r.sampling.seed = 3;
  Scheduler plain(tiny_engine(40, KvType::kF16, 1), {});
  Scheduler eager(tiny_engine(40, KvType::kF16, 1),
                  {.speculation = {.mode = SpeculationMode::kNgram,
                                   .depth = {.deepest = 6, .first_pause = 1, .longest_pause = 1}}});
  expect_same(ask(eager, r), ask(plain, r));
}

TEST(ContextShift, AConstraintKeepsItsState) {
  ConstraintCompiler compiler(tiny_model()->tokenizer, tiny_model()->stop_tokens);
  for (const SpeculationMode mode : {SpeculationMode::kOff, SpeculationMode::kNgram}) {
    Scheduler scheduler(tiny_engine(40, KvType::kF16, 1),
                        {.speculation = {.mode = mode, .depth = {}}});
    GenerateRequest r = request(tale(), -1, {8});
    r.ignore_eos = false;
    r.sampling.temperature = 1;
    r.sampling.seed = 5;
    r.constraint = compiler.compile({ConstraintSpec::Kind::kRegex, "[0-9]{200}(ab|cd){200}x"});
    const Heard heard = ask(scheduler, r);
    EXPECT_EQ(heard.reason, FinishReason::kStop);
    ASSERT_EQ(heard.text.size(), 601u);
    EXPECT_TRUE(std::all_of(heard.text.begin(), heard.text.begin() + 200,
                            [](char c) { return c >= '0' && c <= '9'; }));
    for (size_t i = 200; i < 600; i += 2) {
      EXPECT_TRUE(heard.text.substr(i, 2) == "ab" || heard.text.substr(i, 2) == "cd");
    }
    EXPECT_EQ(heard.text.back(), 'x');
    wait_for_free_blocks(scheduler);
    EXPECT_GT(scheduler.stats().context_shifts, 0u);
  }
}

TEST(ContextShift, AStopStringMatchesAcrossIt) {
  constexpr int32_t kWindow = 64, kTokens = 90;
  std::mt19937 random(1);
  int matched = 0;
  for (int i = 0; i < 20; ++i) {
    const Ids prompt = random_prompt(random, 20);
    const Ids tokens =
        expected_tokens(prompt, kTokens, kWindow, true, HashText::kRandom, ContextShift{4});
    const auto& tokenizer = *fake_model()->tokenizer;
    const std::string whole = tokenizer.decode(tokens, true);
    // The window is full after 44 tokens of the answer.
    const size_t border = tokenizer.decode(std::span(tokens).first(44), true).size();
    if (border < 3 || border + 3 > whole.size()) continue;
    const std::string stop = whole.substr(border - 3, 6);
    if (whole.find(stop) != border - 3) continue;
    Scheduler scheduler(hash_engine({.context = kWindow}), {});
    GenerateRequest r = request(prompt, kTokens, {4});
    r.stop = {stop};
    const Heard heard = ask(scheduler, r);
    EXPECT_EQ(heard.reason, FinishReason::kStop);
    EXPECT_EQ(heard.text, whole.substr(0, border - 3));
    wait_for_free_blocks(scheduler);
    matched += scheduler.stats().context_shifts == 1 ? 1 : 0;
  }
  EXPECT_GT(matched, 10);
}

TEST(ContextShift, ChoicesOfOnePromptPartAndTwinsDoNot) {
  std::array<Answer, 6> answers;
  std::vector<GenerateRequest> requests;
  Scheduler plain(tiny_engine(40, KvType::kF16, 1), {});
  {
    // Room for two contexts: some have to wait and are computed again.
    Scheduler scheduler(tiny_engine(24, KvType::kF16, 2), {.max_batch_tokens = 64});
    for (size_t i = 0; i < answers.size(); ++i) {
      GenerateRequest r = request(tale(), 250, {i < 4 ? static_cast<int32_t>(i) * 5 : 9});
      r.sampling.temperature = i < 4 ? 1.0f : 0.0f;
      r.sampling.seed = 40 + i;
      requests.push_back(r);
      scheduler.submit(r, answers[i].callback());
    }
    for (size_t i = 0; i < answers.size(); ++i) {
      answers[i].wait();
      EXPECT_EQ(answers[i].tokens(), in_stretches(plain, requests[i], kContext).tokens) << i;
    }
    wait_for_free_blocks(scheduler);
  }
}

TEST(ContextShift, UsageAndCountersCountTheWholeAnswer) {
  constexpr int32_t kWindow = 64;
  std::mt19937 random(2);
  const Ids prompt = random_prompt(random, 30);
  Scheduler scheduler(hash_engine({.context = kWindow, .blocks = 4}), {.max_batch_tokens = 16});
  Answer answer;
  scheduler.submit(request(prompt, 100, {20}), answer.callback());
  const GenerateUsage usage = answer.wait().usage;
  EXPECT_EQ(answer.tokens(),
            expected_tokens(prompt, 100, kWindow, true, HashText::kRandom, ContextShift{20}));
  EXPECT_EQ(usage.prompt_tokens, 30);
  EXPECT_EQ(usage.cached_tokens, 0);
  EXPECT_EQ(usage.generated_tokens, 100);
  wait_for_free_blocks(scheduler);
  const SchedulerStats stats = scheduler.stats();
  // After 34 tokens of the answer and for each 22 more but the last: half of the 44 that are not
  // kept go.
  EXPECT_EQ(stats.context_shifts, 3u);
  EXPECT_EQ(stats.generated_tokens, 100u);
  EXPECT_EQ(stats.preemptions, 0u);
  // Each time 42 tokens are left, of which a block is found and the others are read again.
  EXPECT_EQ(stats.prefix_hit_tokens, 0u);
  EXPECT_EQ(stats.prompt_tokens, 30u);
  EXPECT_EQ(stats.recomputed_tokens, 3u * 26);
}

TEST(ContextShift, AnAnswerWithoutALimitEndsAfterTenWindows) {
  Scheduler scheduler(hash_engine({.context = 48}), {});
  const Heard shifting = ask(scheduler, request({5, 6, 7}, -1, {}));
  EXPECT_EQ(shifting.reason, FinishReason::kLength);
  EXPECT_EQ(shifting.generated, 480);
  GenerateRequest r = request({5, 6, 7}, -1, {});
  r.shift.reset();
  EXPECT_EQ(ask(scheduler, r).generated, 45);
  r.max_tokens = 1000;
  EXPECT_EQ(ask(scheduler, r).reason, FinishReason::kLength);
  wait_for_free_blocks(scheduler);
  EXPECT_EQ(scheduler.stats().context_shifts, 19u);  // after 45 tokens, and for each 24 more
}

TEST(ContextShift, IsCancelledWhileTheRestIsReadAgain) {
  constexpr int32_t kWindow = 200;
  std::mt19937 random(3);
  const Ids prompt = random_prompt(random, 150);
  Scheduler* self = nullptr;
  RequestId id = 0;
  int64_t longest = 0;
  bool cancelled = false;
  Gate gate;
  const auto cancel = gate.hook([&](int32_t, std::span<const SequenceSlice> slices) {
    const int64_t end = slices[0].end();
    // Two chunks of the hundred tokens that are left were read.
    if (longest == kWindow - 1 && end == 32 && !cancelled) {
      self->cancel(id);
      cancelled = true;
    }
    longest = std::max(longest, end);
  });
  Scheduler scheduler(hash_engine({.context = kWindow, .blocks = 20, .before_step = cancel}),
                      {.max_batch_tokens = 16});
  self = &scheduler;
  Answer answer;
  id = scheduler.submit(request(prompt, 500, {0}), answer.callback());
  gate.open();
  EXPECT_EQ(answer.wait().reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.wait().usage.generated_tokens, 50);
  EXPECT_EQ(answer.tokens(), expected_tokens(prompt, 50, kWindow, true));
  wait_for_free_blocks(scheduler);
  EXPECT_TRUE(cancelled);
  EXPECT_EQ(scheduler.stats().context_shifts, 1u);
}

TEST(ContextShift, WorksInAnArenaThatOneWindowFills) {
  constexpr int32_t kWindow = 64;
  std::mt19937 random(4);
  Scheduler scheduler(hash_engine({.context = kWindow, .blocks = 4}), {.max_batch_tokens = 24});
  std::array<Answer, 5> answers;
  std::vector<Ids> prompts;
  for (size_t i = 0; i < answers.size(); ++i) {
    prompts.push_back(random_prompt(random, 10 + 12 * static_cast<int>(i)));
    scheduler.submit(request(prompts[i], 150, {static_cast<int32_t>(i) * 20 - 1}),
                     answers[i].callback());
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].wait();
    EXPECT_EQ(answers[i].tokens(),
              expected_tokens(prompts[i], 150, kWindow, true, HashText::kRandom,
                              ContextShift{static_cast<int32_t>(i) * 20 - 1}));
  }
  wait_for_free_blocks(scheduler);
}

}  // namespace
}  // namespace mlxr::testing
