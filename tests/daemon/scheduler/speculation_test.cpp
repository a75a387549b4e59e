// Speculation in the scheduler: what it must not change, and what it brings.
#include "daemon/scheduler/speculation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/runtime/constraint/constraint.h"
#include "daemon/scheduler/scheduler.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::ask;
using testing::expected_tokens;
using testing::greedy_request;
using testing::HashEngine;
using testing::HashEngineOptions;
using testing::HashText;
using testing::Heard;
using testing::Ids;
using testing::random_prompt;
using testing::tiny_engine;
using testing::tiny_model;

// Proposes in every other step at least, whether it pays or not.
const SpeculationOptions kEager{.mode = SpeculationMode::kNgram,
                                .depth = {.deepest = 6, .first_pause = 1, .longest_pause = 1}};

// Requests of every kind, to text that repeats itself.
std::vector<GenerateRequest> requests_of_all_kinds() {
  const Ids prompt = tiny_model()->tokenizer->encode(
      "The fox said: run, run, run. The hare said: run, run, run. The fox said: run,", false,
      false);
  ConstraintCompiler compiler(tiny_model()->tokenizer, tiny_model()->stop_tokens);
  std::vector<GenerateRequest> all;
  const auto add = [&](const auto& change) {
    GenerateRequest r = greedy_request(prompt, 100);
    r.sampling.seed = 11;
    r.ignore_eos = true;
    change(r);
    all.push_back(std::move(r));
  };
  add([](GenerateRequest&) {});
  add([](GenerateRequest& r) { r.ignore_eos = false; });
  add([](GenerateRequest& r) { r.max_tokens = 1; });
  add([](GenerateRequest& r) { r.max_tokens = 0; });
  add([](GenerateRequest& r) { r.max_tokens = -1; });
  add([](GenerateRequest& r) { r.sampling.temperature = 1; });
  add([](GenerateRequest& r) {
    r.sampling.temperature = 0.7f;
    r.n_logprobs = 2;
  });
  add([](GenerateRequest& r) { r.sampling.repeat_penalty = 1.2f; });
  add([](GenerateRequest& r) { r.sampling.dry_multiplier = 0.8f; });
  add([](GenerateRequest& r) {
    r.sampling.temperature = 1;
    r.sampling.mirostat = 2;
  });
  add([](GenerateRequest& r) { r.stop = {"never", "run"}; });
  add([&](GenerateRequest& r) {
    r.constraint = compiler.compile({ConstraintSpec::Kind::kRegex, "(ab|cd){20}"});
    r.sampling.temperature = 1;
  });
  return all;
}

enum class From { kNgrams, kDraft, kDraftOfOtherOrder, kDraftOfOtherTokens };

class Proposals : public ::testing::TestWithParam<From> {};

TEST_P(Proposals, LeaveWhatAnOwnerHears) {
  const From from = GetParam();
  SpeculationOptions speculation = kEager;
  if (from != From::kNgrams) speculation.mode = SpeculationMode::kDraft;
  const auto draft = from == From::kDraftOfOtherOrder    ? testing::tiny_model_with_other_vocab(0)
                     : from == From::kDraftOfOtherTokens ? testing::tiny_model_with_other_vocab(3)
                                                         : tiny_model();
  Scheduler plain(tiny_engine(40, KvType::kF16, 1), {});
  Scheduler eager(tiny_engine(40, KvType::kF16, 1), {.speculation = speculation},
                  tiny_engine(40, KvType::kF16, 1, draft));
  uint64_t accepted = 0;
  for (GenerateRequest request : requests_of_all_kinds()) {
    for (int turn = 0; turn < 2; ++turn) {
      const Heard expected = ask(plain, request), heard = ask(eager, request);
      EXPECT_EQ(heard.text, expected.text);
      EXPECT_TRUE(heard == expected) << heard.generated << " " << expected.generated << ", cached "
                                     << heard.cached << " " << expected.cached;
      testing::wait_for_free_blocks(eager);
      accepted = eager.stats().accepted_tokens;
      // The answer is in the next prompt, and its blocks are found.
      if (heard.tokens.size() > 60) break;
      request.prompt.insert(request.prompt.end(), heard.tokens.begin(), heard.tokens.end());
      request.prompt.push_back(300);
    }
  }
  EXPECT_GT(accepted, 100u);
  if (from == From::kDraft) {  // by the model itself, at any temperature
    EXPECT_GT(accepted * 10, eager.stats().proposed_tokens * 8);
  } else {
    EXPECT_GT(eager.stats().proposed_tokens, accepted);
  }
  EXPECT_EQ(eager.stats().generated_tokens, plain.stats().generated_tokens);
  EXPECT_EQ(plain.stats().proposed_tokens, 0u);
}

INSTANTIATE_TEST_SUITE_P(Speculation, Proposals,
                         ::testing::Values(From::kNgrams, From::kDraft, From::kDraftOfOtherOrder,
                                           From::kDraftOfOtherTokens));

// Answers of an engine of repetitive text whose draft knows its pattern.
struct Drafted {
  SchedulerStats stats;
  bool right = true;
};
Drafted answers_with_draft(HashEngineOptions draft) {
  std::mt19937 random(3);
  draft.text = HashText::kPattern;
  draft.step = 0.0001;
  SpeculationOptions speculation = kEager;
  speculation.mode = SpeculationMode::kDraft;
  Scheduler scheduler(std::make_unique<HashEngine>(HashEngineOptions{
                          .context = 400, .blocks = 300, .text = HashText::kRepetitive}),
                      {.max_batch_tokens = 64, .speculation = speculation},
                      std::make_unique<HashEngine>(std::move(draft)));
  Drafted out;
  std::vector<Answer> answers(4);
  std::vector<Ids> prompts;
  for (Answer& answer : answers) {
    prompts.push_back(random_prompt(random, 150));
    GenerateRequest r = greedy_request(prompts.back(), 100);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answer.callback());
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].wait();
    out.right = out.right && answers[i].tokens() ==
                                 expected_tokens(prompts[i], 100, 400, true, HashText::kRepetitive);
  }
  testing::wait_for_free_blocks(scheduler);
  out.stats = scheduler.stats();
  return out;
}

TEST(Speculation, ADraftReadsLongPromptsInPartsAndItsVocabularyMayBePadded) {
  for (const int32_t vocab : {testing::kVocab, testing::kVocab - 100, testing::kVocab + 100}) {
    int64_t most = 0;
    const Drafted drafted =
        answers_with_draft({.blocks = 300,
                            .vocab = vocab,
                            .before_step = [&](int32_t, std::span<const SequenceSlice> slices) {
                              int64_t tokens = 0;
                              for (const SequenceSlice& s : slices)
                                tokens += static_cast<int64_t>(s.tokens.size());
                              most = std::max(most, tokens);
                            }});
    EXPECT_TRUE(drafted.right);
    EXPECT_GT(drafted.stats.accepted_tokens, 100u) << vocab;
    EXPECT_EQ(most, 64);
  }
}

TEST(Speculation, ADraftThatFailsOnlyEndsTheSpeculation) {
  const auto fail = [](int32_t step, std::span<const SequenceSlice>) {
    if (step >= 40) throw Error(ErrorCode::kInternal, "the draft broke");
  };
  const Drafted drafted = answers_with_draft({.blocks = 300, .before_step = fail});
  EXPECT_TRUE(drafted.right);
  EXPECT_GT(drafted.stats.accepted_tokens, 0u);
  EXPECT_LT(drafted.stats.accepted_tokens, 150u);
}

TEST(Speculation, ADraftNeedsATokenizer) {
  auto other = std::make_shared<Model>(*testing::fake_model());
  other->tokenizer = nullptr;
  other->path = "/models/mute";
  SpeculationOptions speculation = kEager;
  speculation.mode = SpeculationMode::kDraft;
  try {
    Scheduler scheduler(testing::hash_engine({}), {.speculation = speculation},
                        testing::hash_engine({.model = other}));
    FAIL() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(std::string(error.what()),
              "the draft model /models/mute has no tokenizer, so that no draft can propose text; "
              "choose another draft model, or speculation: ngram");
  }
}

// Seconds of the engine's own time that `count` answers of 300 tokens take together.
double seconds_of(HashText text, SpeculationMode mode, double token, size_t count,
                  double wide = 0) {
  constexpr int32_t kContext = 400, kTokens = 300;
  std::mt19937 random(1);
  testing::Gate gate;
  Scheduler scheduler(
      std::make_unique<HashEngine>(HashEngineOptions{.context = kContext,
                                                     .blocks = 300,
                                                     .text = text,
                                                     .step = 0.01,
                                                     .token = token,
                                                     .narrow = static_cast<int32_t>(count),
                                                     .wide = wide,
                                                     .before_step = gate.hook()}),
      {.speculation = {.mode = mode, .depth = {}}});
  Answer opener;
  scheduler.submit(greedy_request({5}, 1), opener.callback());
  gate.wait();
  std::vector<Answer> answers(count);
  std::vector<Ids> prompts;
  for (Answer& answer : answers) {
    prompts.push_back(random_prompt(random, 20));
    GenerateRequest r = greedy_request(prompts.back(), kTokens);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answer.callback());
  }
  gate.open();
  for (size_t i = 0; i < count; ++i) {
    answers[i].wait();
    EXPECT_EQ(answers[i].tokens(), expected_tokens(prompts[i], kTokens, kContext, true, text));
  }
  testing::wait_for_free_blocks(scheduler);
  return scheduler.stats().step_seconds.sum;
}

TEST(Speculation, PaysWhereTextRepeatsAndCostsNothingElsewhere) {
  const auto ratio = [](HashText text, double token, size_t count) {
    return seconds_of(text, SpeculationMode::kOff, token, count) /
           seconds_of(text, SpeculationMode::kNgram, token, count);
  };
  EXPECT_GT(ratio(HashText::kRepetitive, 0.0005, 1), 1.5);
  EXPECT_GT(ratio(HashText::kRepetitive, 0.0005, 4), 1.3);
  EXPECT_GT(ratio(HashText::kRepetitive, 0.01, 1), 0.95);  // a step of two costs almost two
  EXPECT_GT(ratio(HashText::kRandom, 0.0005, 1), 0.99);
  EXPECT_GT(ratio(HashText::kRandom, 0.01, 4), 0.99);
}

// A step of one token more than there are answers takes ten times as long, and what follows is
// free: given the others' proposals, each one's own would pay.
TEST(Speculation, IsLeftWhereAllProposalsTogetherDoNotPay) {
  const auto seconds = [](SpeculationMode mode) {
    return seconds_of(HashText::kRepetitive, mode, 0.0, 8, 0.1);
  };
  EXPECT_LT(seconds(SpeculationMode::kNgram), 1.25 * seconds(SpeculationMode::kOff));
}

TEST(Speculation, ManyAnswersTogetherProposeNoMoreThanTheMost) {
  int64_t most = 0;
  const auto look = [&](int32_t, std::span<const SequenceSlice> slices) {
    int64_t proposed = 0;
    for (const SequenceSlice& slice : slices) proposed += slice.proposed;
    most = std::max(most, proposed);
  };
  std::mt19937 random(4);
  Scheduler scheduler(
      std::make_unique<HashEngine>(HashEngineOptions{
          .context = 400, .blocks = 1000, .text = HashText::kPattern, .before_step = look}),
      {.speculation = kEager});
  std::vector<Answer> answers(40);
  for (Answer& answer : answers) {
    GenerateRequest r = greedy_request(random_prompt(random, 20), 150);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answer.callback());
  }
  for (Answer& answer : answers) answer.wait();
  EXPECT_GT(most, kMostProposed / 2);
  EXPECT_LE(most, kMostProposed);
}

TEST(Speculation, KeepsToTheRoomOfTheBatchAndLeavesHalfOfItToPrompts) {
  int64_t most = 0, most_beside_prompts = 0, proposed = 0;
  const auto look = [&](int32_t, std::span<const SequenceSlice> slices) {
    int64_t tokens = 0, ahead = 0;
    bool prompt = false;
    for (const SequenceSlice& slice : slices) {
      const auto size = static_cast<int64_t>(slice.tokens.size());
      tokens += size;
      ahead += slice.proposed;
      prompt = prompt || size > 1 + slice.proposed;
    }
    most = std::max(most, tokens);
    proposed += ahead;
    if (prompt) most_beside_prompts = std::max(most_beside_prompts, ahead);
  };
  std::mt19937 random(2);
  Scheduler scheduler(
      std::make_unique<HashEngine>(HashEngineOptions{
          .context = 400, .blocks = 300, .text = HashText::kRepetitive, .before_step = look}),
      {.max_batch_tokens = 20, .speculation = kEager});
  std::vector<Answer> answers(16);
  for (Answer& answer : answers) {
    GenerateRequest r = greedy_request(random_prompt(random, 60), 120);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answer.callback());
  }
  for (Answer& answer : answers) EXPECT_EQ(answer.wait().usage.generated_tokens, 120);
  EXPECT_LE(most, 20);
  EXPECT_GT(proposed, 100);
  EXPECT_GT(most_beside_prompts, 0);
  EXPECT_LE(most_beside_prompts, 10);
}

}  // namespace
}  // namespace mlxr
