// An engine that computes nothing: each sequence's next token is a hash of the tokens that its
// block table shows, so an answer is right or wrong whatever shared its steps or its blocks. Time
// is the engine's own: a step takes what a formula says.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/runtime/kv/kv_disk.h"
#include "daemon/scheduler/step_cost.h"
#include "daemon/scheduler/step_engine.h"
#include "mlx/array.h"
#include "tests/core/runtime/kv/block_memory.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/source_dir.h"

namespace mlxr::testing {

using Ids = std::vector<int32_t>;
inline constexpr int32_t kVocab = 6144;
inline constexpr int32_t kStopToken = 2;

inline std::shared_ptr<const Model> fake_model(bool encoder = false) {
  static const auto kModel = [](bool is_encoder) {
    auto model = std::make_shared<Model>();
    model->spec.encoder = is_encoder;
    model->spec.token_types = is_encoder ? 2 : 0;
    model->spec.vocab = kVocab;
    model->tokenizer =
        Tokenizer::from_json(read_file(testing::source_dir() / "models/mlxr-demo/tokenizer.json"));
    model->stop_tokens = {0, kStopToken};
    return model;
  };
  static const auto kDecoder = kModel(false), kEncoder = kModel(true);
  return encoder ? kEncoder : kDecoder;
}

// Another with this vocabulary.
inline std::shared_ptr<const Model> fake_model_with(std::shared_ptr<const Tokenizer> tokenizer) {
  auto model = std::make_shared<Model>(*fake_model());
  model->spec.vocab = tokenizer->vocab_size();
  model->tokenizer = std::move(tokenizer);
  return model;
}

inline uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t h = 1469598103934665603ull;
  for (int32_t t : tokens) h = (h ^ static_cast<uint64_t>(t)) * 1099511628211ull;
  return h ^ h >> 29;
}

enum class HashText {
  kRandom,      // each token depends on all before it
  kRepetitive,  // most of them are a function of the last two, with few values
  kPattern,     // all of them are, as most of the repetitive ones
};

// The next token after `tokens`: ordinary text, or (one time in forty) the end of the turn.
inline int32_t next_token(std::span<const int32_t> tokens, HashText text = HashText::kRandom) {
  const uint64_t h = hash_of(tokens);
  const bool follows = text == HashText::kPattern || (text == HashText::kRepetitive && h % 25 != 0);
  if (h % 40 == 0 && text != HashText::kPattern) return kStopToken;
  if (follows && tokens.size() >= 2) {
    return static_cast<int32_t>(10 + (hash_of(tokens.last(2)) >> 8) % 20);
  }
  return static_cast<int32_t>(10 + (h >> 8) % 6000);
}

// The final state of the last of these tokens.
inline std::vector<float> state_after(std::span<const int32_t> tokens) {
  return {static_cast<float>(hash_of(tokens) % 997), static_cast<float>(tokens.back())};
}

// What the hash engine must answer, computed without a scheduler.
inline Ids expected_tokens(const Ids& prompt, int32_t max_tokens, int32_t context,
                           bool ignore_eos = false, HashText text = HashText::kRandom,
                           std::optional<ContextShift> shift = {}) {
  Ids all = prompt, out;
  while (static_cast<int32_t>(out.size()) < max_tokens) {
    if (static_cast<int32_t>(all.size()) == context) {
      if (!shift) break;
      all = shifted(all, prompt.size(), *shift);
    }
    const int32_t token = next_token(all, text);
    if (token == kStopToken && !ignore_eos) break;
    all.push_back(token);
    out.push_back(token);
  }
  return out;
}

inline Ids random_prompt(std::mt19937& random, int length) {
  Ids ids;
  for (int i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(10 + random() % 6000));
  return ids;
}

using StepHook = std::function<void(int32_t step, std::span<const SequenceSlice> slices)>;

struct HashEngineOptions {
  int32_t context = 400;
  int32_t blocks = 100;
  int32_t block_tokens = 16;
  HashText text = HashText::kRandom;
  int32_t vocab = kVocab;              // of its logits
  std::shared_ptr<const Model> model;  // null: fake_model()
  // Instead of `text`: the token after those that the block table shows.
  std::function<int32_t(std::span<const int32_t>)> next;
  bool encoder = false;
  KvWindow window;
  std::optional<HashKey> key;  // that blocks are named under
  // Seconds of a step: at all, for a token, for a token and a position that it attends to.
  double step = 0.001, token = 0, attended = 0;
  // And for more tokens than so many, once.
  int32_t narrow = 1 << 20;
  double wide = 0;
  // Called on the scheduler's thread before step number `step`, which has these slices.
  StepHook before_step;
};

// Holds a scheduler in its first step until everything was submitted, so that a test knows what
// arrives together.
class Gate {
 public:
  // A hook that waits in step 0 and calls `next` in the others.
  StepHook hook(StepHook next = {}) {
    return [this, opened = opened_.get_future().share(), next = std::move(next)](
               int32_t step, std::span<const SequenceSlice> slices) {
      if (step == 0) {
        entered_.set_value();
        opened.wait();
      } else if (next) {
        next(step, slices);
      }
    };
  }
  // Step 0 is there and has what was submitted before.
  void wait() { entered_.get_future().wait(); }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> entered_, opened_;
};

class HashEngine : public StepEngine {
 public:
  explicit HashEngine(HashEngineOptions options)
      : options_(std::move(options)),
        pager_(options_.blocks, options_.block_tokens, options_.window),
        memory_(pager_) {
    if (options_.key) pager_.use_key(*options_.key);
  }

  const Model& model() const override {
    return options_.model ? *options_.model : *fake_model(options_.encoder);
  }
  int32_t context_length() const override { return options_.context; }
  int64_t kv_bytes() const override { return 0; }
  Pager& pager() override { return pager_; }
  std::chrono::steady_clock::time_point now() const override { return now_; }

  int64_t block_bytes() const override { return memory_.block_bytes(); }
  void save_block(BlockId block, std::span<std::byte> to) const override {
    memory_.save(block, to);
  }
  void load_block(BlockId block, std::span<const std::byte> from) override {
    memory_.load(block, from);
  }

  StepLogits step(std::span<const SequenceSlice> slices) override {
    const int32_t step = steps_++;
    if (options_.before_step) options_.before_step(step, slices);
    EXPECT_FALSE(slices.empty());
    StepLoad load;
    std::vector<float> logits, states;
    using Logits = SequenceSlice::Logits;
    const auto vocab = static_cast<size_t>(options_.vocab);
    for (const SequenceSlice& slice : slices) {
      const size_t count = slice.tokens.size();
      load.add(static_cast<int64_t>(count), slice.begin());
      EXPECT_LE(slice.end(), options_.context);
      expect_window(*slice.kv);
      memory_.append(*slice.kv, slice.tokens, static_cast<size_t>(slice.proposed));
      if (slice.logits == Logits::kNone) continue;
      const Ids tokens = memory_.read(*slice.kv);
      const bool all = slice.logits == Logits::kAll || slice.logits == Logits::kAllStates;
      for (size_t left = all ? count : 1; left-- > 0;) {
        if (slice.logits == Logits::kAllStates || slice.logits == Logits::kLastState) {
          const auto state = state_after(std::span(tokens).first(tokens.size() - left));
          states.insert(states.end(), state.begin(), state.end());
          continue;
        }
        logits.resize(logits.size() + vocab, 0.0f);
        const auto seen = std::span(tokens).first(tokens.size() - left);
        const auto token = options_.next ? options_.next(seen) : next_token(seen, options_.text);
        logits[logits.size() - vocab + static_cast<size_t>(token)] = 20.0f;
      }
    }
    pager_.check();
    now_ += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        std::chrono::duration<double>(options_.step + options_.token * load.tokens +
                                      options_.attended * load.attended +
                                      (load.tokens > options_.narrow ? options_.wide : 0)));
    const auto rows = static_cast<int>(logits.size() / vocab);
    StepLogits out(mlx::core::array(logits.begin(), {rows, options_.vocab}, mlx::core::float32),
                   rows, options_.vocab);
    if (!states.empty()) {
      std::vector<int32_t> places(states.size() / 2);
      std::iota(places.begin(), places.end(), 0);
      const auto count = static_cast<int>(places.size());
      out.set_states(mlx::core::array(states.begin(), {count, 2}, mlx::core::float32),
                     std::move(places));
    }
    return out;
  }

 private:
  // What the first token of a step reads was there before it, and stays until the step is done.
  void expect_window(const KvSequence& kv) const {
    const Ids read = memory_.read(kv);
    EXPECT_EQ(std::ranges::count(read, -2), 0) << "a window is not whole";
  }

  HashEngineOptions options_;
  Pager pager_;
  BlockMemory memory_;
  int32_t steps_ = 0;
  std::chrono::steady_clock::time_point now_{};
};

inline std::unique_ptr<StepEngine> hash_engine(HashEngineOptions options) {
  return std::make_unique<HashEngine>(std::move(options));
}

}  // namespace mlxr::testing
