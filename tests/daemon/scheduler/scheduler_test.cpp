// The scheduler over an engine that computes nothing: each sequence's next token is a hash of its
// own tokens, so an answer is right or wrong whatever shared its steps. Random mixes of arrivals,
// lengths, cancels and small arenas are compared with the answer that a request gets alone.
#include "daemon/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "core/base/file.h"
#include "daemon/scheduler/step_engine.h"
#include "mlx/array.h"

namespace mlxr {
namespace {

using Ids = std::vector<int32_t>;
constexpr int32_t kVocab = 6144;

std::shared_ptr<const Model> fake_model() {
  static const auto kModel = [] {
    auto model = std::make_shared<Model>();
    model->spec.vocab = kVocab;
    model->tokenizer = Tokenizer::from_json(
        read_file(std::string(MLXR_SOURCE_DIR) + "/models/mlxr-demo/tokenizer.json"));
    model->stop_tokens = {0, 2};
    return model;
  }();
  return kModel;
}

// The next token after `tokens`: ordinary text, or (one time in forty) the end of the turn.
int32_t next_token(const Ids& tokens) {
  uint64_t h = 1469598103934665603ull;
  for (int32_t t : tokens) h = (h ^ static_cast<uint64_t>(t)) * 1099511628211ull;
  h ^= h >> 29;
  return h % 40 == 0 ? 2 : static_cast<int32_t>(10 + (h >> 8) % 6000);
}

class HashEngine : public StepEngine {
 public:
  HashEngine(int32_t context, int32_t blocks, int32_t throw_at = -1)
      : context_(context), pager_(blocks, 16), throw_at_(throw_at) {}

  const Model& model() const override { return *fake_model(); }
  int32_t context_length() const override { return context_; }
  int64_t kv_bytes() const override { return 0; }
  Pager& pager() override { return pager_; }

  StepLogits step(std::span<const SequenceSlice> slices) override {
    if (steps_++ == throw_at_) throw Error(ErrorCode::kInternal, "the engine broke");
    std::vector<float> logits;
    for (const SequenceSlice& slice : slices) {
      Ids& tokens = tokens_[slice.kv];
      if (slice.kv->length() == 0) tokens.clear();
      EXPECT_EQ(static_cast<int64_t>(tokens.size()), slice.kv->length());
      slice.kv->reserve(slice.kv->length() + static_cast<int64_t>(slice.tokens.size()));
      slice.kv->advance(static_cast<int64_t>(slice.tokens.size()));
      tokens.insert(tokens.end(), slice.tokens.begin(), slice.tokens.end());
      EXPECT_LE(slice.kv->length(), context_);
      if (slice.logits == SequenceSlice::Logits::kNone) continue;
      logits.resize(logits.size() + kVocab, 0.0f);
      logits[logits.size() - kVocab + static_cast<size_t>(next_token(tokens))] = 20.0f;
    }
    const auto rows = static_cast<int>(logits.size() / kVocab);
    return StepLogits(mlx::core::array(logits.begin(), {rows, kVocab}, mlx::core::float32), rows,
                      kVocab);
  }

 private:
  int32_t context_;
  Pager pager_;
  int32_t throw_at_;
  int32_t steps_ = 0;
  std::map<const KvSequence*, Ids> tokens_;
};

// Collects one request's events.
class Answer {
 public:
  GenerateCallback callback() {
    return [this](GenerateEvent&& event) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(done_) << "an event after the final one";
      text_ += event.text;
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      if (event.final) {
        done_ = true;
        last_ = std::move(event);
        changed_.notify_all();
      }
    };
  }
  const GenerateEvent& wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return done_; }));
    return last_;
  }
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }
  Ids tokens() {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string text_;
  Ids tokens_;
  GenerateEvent last_;
};

GenerateRequest request(Ids prompt, int32_t max_tokens) {
  GenerateRequest r;
  r.prompt = std::move(prompt);
  r.max_tokens = max_tokens;
  r.sampling.temperature = 0;
  return r;
}

Ids random_prompt(std::mt19937& random, int length) {
  Ids ids;
  for (int i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(10 + random() % 6000));
  return ids;
}

// What the hash engine must answer, computed without a scheduler.
Ids expected_tokens(const Ids& prompt, int32_t max_tokens, int32_t context) {
  Ids all = prompt, out;
  while (static_cast<int32_t>(out.size()) < max_tokens &&
         static_cast<int32_t>(all.size()) < context) {
    const int32_t token = next_token(all);
    if (token == 2) break;
    all.push_back(token);
    out.push_back(token);
  }
  return out;
}

void wait_for_free_blocks(Scheduler& scheduler) {
  for (int i = 0; i < 500 && scheduler.stats().kv_blocks_used != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(scheduler.stats().kv_blocks_used, 0);
  EXPECT_EQ(scheduler.stats().running, 0);
}

TEST(Scheduler, RandomMixesAnswerAsAloneAndLeakNoBlock) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    std::mt19937 random(seed);
    const int32_t context = 160;
    // From plenty of room to an arena that one full context fills.
    const int32_t blocks = 10 + static_cast<int32_t>(random() % 40);
    SchedulerOptions options{.max_batch_tokens = 16 + static_cast<int32_t>(random() % 200),
                             .max_sequences = 1 + static_cast<int32_t>(random() % 12)};
    Scheduler scheduler(std::make_unique<HashEngine>(context, blocks), options);
    struct Case {
      Ids prompt;
      int32_t max_tokens;
      bool cancel;
      Answer answer;
    };
    std::vector<std::unique_ptr<Case>> cases;
    for (int i = 0; i < 40; ++i) {
      auto c = std::make_unique<Case>();
      c->prompt = random_prompt(random, 1 + static_cast<int>(random() % 150));
      c->max_tokens = static_cast<int32_t>(random() % 120);
      c->cancel = random() % 4 == 0;
      const RequestId id =
          scheduler.submit(request(c->prompt, c->max_tokens), c->answer.callback());
      if (c->cancel) {
        if (random() % 2) std::this_thread::sleep_for(std::chrono::microseconds(random() % 800));
        scheduler.cancel(id);
      }
      cases.push_back(std::move(c));
    }
    for (const auto& c : cases) {
      const GenerateEvent& last = c->answer.wait();
      const Ids expected = expected_tokens(c->prompt, c->max_tokens, context);
      Ids got = c->answer.tokens();
      if (last.reason == FinishReason::kCancelled) {
        EXPECT_TRUE(c->cancel);
        ASSERT_LE(got.size(), expected.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
      } else {
        EXPECT_EQ(got, expected) << "seed " << seed;
        EXPECT_EQ(c->answer.text(), fake_model()->tokenizer->decode(expected, true));
      }
    }
    wait_for_free_blocks(scheduler);
  }
}

TEST(Scheduler, StopStringsEndTheAnswerBeforeThemselves) {
  std::mt19937 random(5);
  Scheduler scheduler(std::make_unique<HashEngine>(400, 100), {});
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
  Scheduler scheduler(std::make_unique<HashEngine>(64, 16), {.max_queue = 0});
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
  Scheduler scheduler(std::make_unique<HashEngine>(64, 16, /*throw_at=*/2), {});
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

TEST(Scheduler, DrainsAndCancelsWhatTakesTooLong) {
  Scheduler scheduler(std::make_unique<HashEngine>(100000, 10000), {});
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
    Scheduler scheduler(std::make_unique<HashEngine>(100000, 10000), {.max_sequences = 2});
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
  Scheduler scheduler(std::make_unique<HashEngine>(400, 100), {});
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
}  // namespace mlxr
