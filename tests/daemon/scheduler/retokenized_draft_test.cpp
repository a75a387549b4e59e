// A draft with another vocabulary in the scheduler: what its KV holds is the text, its proposals
// are right where it is, and it is left alone where it is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>

#include "daemon/scheduler/scheduler.h"
#include "tests/core/runtime/tokenizer/random_text.h"
#include "tests/core/runtime/tokenizer/sentencepiece_vocab.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"
#include "tests/daemon/scheduler/tiny_model.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::greedy_request;
using testing::HashEngineOptions;
using testing::Ids;
using testing::tiny_engine;
using testing::tiny_model;

SpeculationOptions by_draft(DepthOptions depth) {
  return {.mode = SpeculationMode::kDraft, .depth = depth};
}
// Proposes in every other step at least, whether it pays or not.
const SpeculationOptions kEager = by_draft({.deepest = 6, .first_pause = 1, .longest_pause = 1});

std::shared_ptr<const Tokenizer> sentencepiece(size_t fixture) {
  return Tokenizer::from_gguf(testing::vocab_of(testing::sentencepiece_fixtures()[fixture]));
}

// Texts of words and characters of several tokens, without an x, each with a beginning of its own.
std::vector<std::string> some_texts(size_t count) {
  std::mt19937 random(12);
  std::vector<std::string> texts;
  for (size_t i = 0; i < count; ++i) {
    std::string text = "Story " + std::to_string(i) + ":";
    const char* const words[] = {" the",  " running", " 👍🏽", " is", "ing",
                                 ", and", "\n",       " 日本",     "語",  " to",
                                 " 12",   "345",      " naïve",    "...", "\n\n  "};
    while (text.size() < 700) text += words[random() % std::size(words)];
    texts.push_back(text);
  }
  return texts;
}

// Writes these texts with the demo's tokens: the model.
class Writer {
 public:
  explicit Writer(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      all_.push_back(testing::demo_tokenizer()->encode(text, false, false));
    }
  }
  const Ids& text(size_t i) const { return all_[i]; }
  Ids prompt(size_t i) const { return {all_[i].begin(), all_[i].begin() + 20}; }
  int32_t operator()(std::span<const int32_t> tokens) const {
    for (const Ids& text : all_) {
      if (text.size() > tokens.size() && std::equal(tokens.begin(), tokens.end(), text.begin())) {
        return text[tokens.size()];
      }
    }
    return 300;
  }

 private:
  std::vector<Ids> all_;
};

// Continues the same texts in another vocabulary; now and then it drafts an x instead, and goes on
// with that. Checks that what it reads is one of the texts, but for such an x of this proposal.
class Draft {
 public:
  Draft(std::vector<std::string> texts, std::shared_ptr<const Tokenizer> tokenizer)
      : texts_(std::move(texts)), tokenizer_(std::move(tokenizer)) {
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      bytes_.push_back(tokenizer_->is_special(id) ? "" : tokenizer_->token_bytes(id));
    }
    x_ = static_cast<int32_t>(std::ranges::find(bytes_, "x") - bytes_.begin());
  }
  int32_t operator()(std::span<const int32_t> tokens) const {
    std::string read;
    for (const int32_t token : tokens) read += bytes_.at(static_cast<size_t>(token));
    if (read.starts_with(' ')) read.erase(0, 1);
    const size_t end = read.find_last_not_of('x') + 1;
    const bool wrong = end < read.size();
    for (const std::string& text : texts_) {
      if (!text.starts_with(read.substr(0, end))) continue;
      return wrong || testing::hash_of(tokens) % 6 == 0 ? x_ : next(text.substr(end));
    }
    ADD_FAILURE() << "the draft reads another text: " << read;
    return x_;
  }

 private:
  int32_t next(const std::string& rest) const {
    size_t best = static_cast<size_t>(x_), size = 0;
    for (size_t id = 0; id < bytes_.size(); ++id) {
      if (bytes_[id].size() > size && rest.starts_with(bytes_[id])) {
        best = id;
        size = bytes_[id].size();
      }
    }
    return static_cast<int32_t>(best);
  }

  std::vector<std::string> texts_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::string> bytes_;
  int32_t x_ = 0;
};

struct Written {
  SchedulerStats stats;
  bool right = true;
};
Written write_all(std::shared_ptr<const Tokenizer> tokenizer, HashEngineOptions draft,
                  SchedulerOptions options) {
  const auto texts = some_texts(6);
  const Writer writer(texts);
  draft.step = 0.0001;
  draft.vocab = tokenizer->vocab_size();
  draft.next = Draft(texts, tokenizer);
  draft.model = testing::fake_model_with(tokenizer);
  options.speculation = kEager;
  Scheduler scheduler(testing::hash_engine({.context = 1000, .blocks = 400, .next = writer}),
                      options, testing::hash_engine(std::move(draft)));
  std::vector<Answer> answers(texts.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto rest = static_cast<int32_t>(writer.text(i).size()) - 20;
    GenerateRequest r = greedy_request(writer.prompt(i), rest);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answers[i].callback());
  }
  Written out;
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].wait();
    Ids all = writer.prompt(i);
    for (const int32_t token : answers[i].tokens()) all.push_back(token);
    out.right = out.right && all == writer.text(i);
  }
  testing::wait_for_free_blocks(scheduler);
  out.stats = scheduler.stats();
  return out;
}

TEST(RetokenizedDraft, ReadsTheTextAndProposesItWhateverItsTokens) {
  for (const auto& tokenizer : {sentencepiece(0), sentencepiece(1), testing::other_tokenizer(3)}) {
    const Written written = write_all(tokenizer, {.context = 2000, .blocks = 900}, {});
    EXPECT_TRUE(written.right);
    EXPECT_GT(written.stats.proposed_tokens, 300u);
    EXPECT_GT(written.stats.accepted_tokens * 10, written.stats.proposed_tokens * 4);
  }
}

// Where the draft's tokens are more than its context holds, answers go on beside those that it
// drafts for.
TEST(RetokenizedDraft, AnswersThatItCannotReadGoOnWithoutIt) {
  const Written narrow = write_all(sentencepiece(0), {.context = 200, .blocks = 900}, {});
  EXPECT_TRUE(narrow.right);
  EXPECT_GT(narrow.stats.accepted_tokens, 30u);
  const Written small = write_all(sentencepiece(0), {.context = 2000, .blocks = 40}, {});
  EXPECT_TRUE(small.right);
  EXPECT_GT(small.stats.accepted_tokens, 30u);
}

TEST(RetokenizedDraft, ReadsALongTextInParts) {
  const Written written =
      write_all(sentencepiece(1), {.context = 2000, .blocks = 900}, {.max_batch_tokens = 12});
  EXPECT_TRUE(written.right);
  EXPECT_GT(written.stats.accepted_tokens, 100u);
}

// The same weights with other ids: greedy answers are drafted as they are written.
TEST(RetokenizedDraft, TheModelItselfUnderOtherIdsIsNearlyAlwaysRight) {
  Scheduler scheduler(tiny_engine(60, KvType::kF16, 1), {.speculation = kEager},
                      tiny_engine(60, KvType::kF16, 1, testing::tiny_model_with_other_vocab(0)));
  Scheduler plain(tiny_engine(60, KvType::kF16, 1), {});
  for (const char* text : {"The fox said: run, run, run. The fox", "Once upon a time"}) {
    const auto request = greedy_request(tiny_model()->tokenizer->encode(text, false, false), 100);
    EXPECT_TRUE(testing::ask(scheduler, request) == testing::ask(plain, request));
  }
  testing::wait_for_free_blocks(scheduler);
  const SchedulerStats stats = scheduler.stats();
  EXPECT_GT(stats.proposed_tokens, 50u);
  EXPECT_GT(stats.accepted_tokens * 10, stats.proposed_tokens * 8);
}

// Steps of a draft, which writes `token`, or its own random text, for answers of 300 tokens.
int steps_of_useless_draft(std::optional<int32_t> token, size_t count) {
  std::atomic<int> steps = 0;
  std::mt19937 random(1);
  HashEngineOptions draft{.blocks = 300,
                          .model = testing::fake_model_with(testing::other_tokenizer(3)),
                          .step = 0.004,
                          .before_step = [&](int32_t, std::span<const SequenceSlice>) { ++steps; }};
  if (token) draft.next = [token](std::span<const int32_t>) { return *token; };
  Scheduler scheduler(testing::hash_engine({.blocks = 300, .step = 0.01}),
                      {.speculation = by_draft({})}, testing::hash_engine(std::move(draft)));
  std::vector<Answer> answers(count);
  std::vector<Ids> prompts;
  for (Answer& answer : answers) {
    prompts.push_back(testing::random_prompt(random, 20));
    GenerateRequest r = greedy_request(prompts.back(), 300);
    r.ignore_eos = true;
    scheduler.submit(std::move(r), answer.callback());
  }
  for (size_t i = 0; i < count; ++i) {
    answers[i].wait();
    EXPECT_EQ(answers[i].tokens(), testing::expected_tokens(prompts[i], 300, 400, true));
  }
  return steps;
}

TEST(RetokenizedDraft, IsLeftAloneWhereItDoesNotPay) {
  for (const size_t count : {1u, 4u}) {
    EXPECT_LT(steps_of_useless_draft({}, count), 60) << count;
  }
  // One that never writes a whole character: there is nothing to propose, only time to lose.
  const auto half = testing::other_tokenizer(3)->encode("👍", false, false).front();
  const int steps = steps_of_useless_draft(half, 1);
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 60);
}

}  // namespace
}  // namespace mlxr
