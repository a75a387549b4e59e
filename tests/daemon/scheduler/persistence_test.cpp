// KV blocks that outlive the scheduler, or were evicted: what is read back is not computed, answers
// are the same, and whoever waits for the disk holds up nobody.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <future>
#include <random>

#include "core/base/file.h"
#include "core/runtime/kv/kv_disk.h"
#include "daemon/scheduler/scheduler.h"
#include "tests/core/temp_folder.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::expected_tokens;
using testing::greedy_request;
using testing::HashEngine;
using testing::HashEngineOptions;
using testing::HashText;
using testing::Ids;
using testing::random_prompt;

constexpr HashKey kKey{1, 2};

GenerateRequest request(Ids prompt, int32_t max_tokens, std::string salt = {}) {
  GenerateRequest r = greedy_request(std::move(prompt), max_tokens);
  r.ignore_eos = true;
  r.cache_salt = std::move(salt);
  return r;
}

// Stops the disk's thread at its next write, once armed.
class Hold {
 public:
  int64_t free_bytes() {
    if (armed_) {
      if (!std::exchange(entered_once_, true)) entered_.set_value();
      future_.wait();
    }
    return int64_t{1} << 30;
  }
  void arm() { armed_ = true; }
  void wait() { entered_.get_future().wait(); }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> entered_, opened_;
  std::shared_future<void> future_ = opened_.get_future().share();
  std::atomic<bool> armed_ = false;
  bool entered_once_ = false;  // the disk's thread's own
};

class Persistence : public ::testing::Test {
 protected:
  std::unique_ptr<KvDisk> disk(int64_t block_bytes, int64_t most_blocks = 1000) {
    BlockStoreOptions options{.folder = folder_.path() / "m",
                              .block_bytes = block_bytes,
                              .most_bytes = 64 + most_blocks * (4096 + 64),
                              .free_bytes = [this] { return hold_.free_bytes(); },
                              .keep_free = 0,
                              .warn = [this](const std::string&) { ++warnings_; }};
    auto store = std::make_unique<BlockStore>(std::move(options));
    return std::make_unique<KvDisk>(
        std::move(store), KvDiskOptions{.queue_bytes = queue_blocks_ * block_bytes, .warn = {}});
  }
  // As a daemon that starts: whatever the one before had in memory is gone.
  Scheduler& start(HashEngineOptions options = {}, SchedulerOptions how = {}) {
    scheduler_.reset();
    if (!options.key) options.key = kKey;
    auto engine = std::make_unique<HashEngine>(std::move(options));
    const int64_t block_bytes = engine->block_bytes();
    scheduler_.emplace(std::move(engine), how, nullptr, disk(block_bytes));
    return *scheduler_;
  }
  // The usage of one answer, which is right.
  GenerateUsage ask(const Ids& prompt, const std::string& salt = {}) {
    Answer answer;
    scheduler_->submit(request(prompt, 20, salt), answer.callback());
    const GenerateUsage usage = answer.wait().usage;
    EXPECT_EQ(answer.tokens(), expected_tokens(prompt, 20, 400, true));
    testing::wait_for_free_blocks(*scheduler_);
    return usage;
  }
  void wait_until_written(uint64_t blocks) {
    for (int i = 0; i < 2000 && scheduler_->stats().kv_blocks_persisted < blocks; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    EXPECT_GE(scheduler_->stats().kv_blocks_persisted, blocks);
  }

  testing::TempFolder folder_;
  Hold hold_;
  std::atomic<int> warnings_ = 0;
  int64_t queue_blocks_ = 50;
  std::optional<Scheduler> scheduler_;
};

TEST_F(Persistence, APromptIsReadBackAfterARestart) {
  std::mt19937 random(1);
  const Ids prompt = random_prompt(random, 100);
  start();
  EXPECT_EQ(ask(prompt).cached_tokens, 0);
  start();
  EXPECT_EQ(ask(prompt).cached_tokens, 96);
  const SchedulerStats stats = scheduler_->stats();
  EXPECT_EQ(stats.prompt_tokens, 4u);
  EXPECT_EQ(stats.prefix_hit_tokens, 96u);
  EXPECT_EQ(stats.kv_blocks_restored, 6u);
  EXPECT_EQ(stats.kv_disk_blocks, 7);  // 119 tokens were stored
  EXPECT_EQ(stats.kv_blocks_persisted, 0u);
  EXPECT_EQ(stats.kv_blocks_dropped, 0u);
  EXPECT_EQ(ask(prompt).cached_tokens, 96);  // from memory
  EXPECT_EQ(scheduler_->stats().kv_blocks_restored, 6u);
}

TEST_F(Persistence, WhatMemoryEvictedComesFromTheDisk) {
  std::mt19937 random(2);
  const Ids a = random_prompt(random, 150), b = random_prompt(random, 330);
  start({.blocks = 25});
  ask(a);
  wait_until_written(10);
  ask(b);
  EXPECT_GT(scheduler_->stats().kv_evictions, 0u);
  const uint64_t computed = scheduler_->stats().prompt_tokens;
  EXPECT_EQ(ask(a).cached_tokens, 144);
  EXPECT_EQ(scheduler_->stats().prompt_tokens - computed, 6u);
}

TEST_F(Persistence, AWindowIsReadBackWithThePrefix) {
  std::mt19937 random(9);
  const Ids prompt = random_prompt(random, 300), other = random_prompt(random, 300);
  const KvWindow window{.tokens = 40, .parts = 8, .step_tokens = 32};
  start({.window = window});
  ask(prompt);
  start({.window = window});
  EXPECT_EQ(ask(prompt).cached_tokens, 288);
  ask(other);  // takes the places of the windows
  wait_until_written(18);
  EXPECT_EQ(ask(prompt).cached_tokens, 288);
  EXPECT_GT(scheduler_->stats().kv_blocks_restored, 18u);
}

TEST_F(Persistence, SaltsAndKeysStayApart) {
  std::mt19937 random(3);
  const Ids prompt = random_prompt(random, 100);
  start();
  ask(prompt, "a");
  start();
  EXPECT_EQ(ask(prompt, "b").cached_tokens, 0);
  EXPECT_EQ(ask(prompt).cached_tokens, 0);
  EXPECT_EQ(ask(prompt, "a").cached_tokens, 96);
  start({.key = HashKey{3, 4}});
  EXPECT_EQ(ask(prompt, "a").cached_tokens, 0);
}

TEST_F(Persistence, APrefixInMemoryIsContinuedFromTheDisk) {
  std::mt19937 random(4);
  const Ids longer = random_prompt(random, 200);
  const Ids shorter(longer.begin(), longer.begin() + 70);
  start();
  ask(longer);
  start();
  EXPECT_EQ(ask(shorter).cached_tokens, 64);
  EXPECT_EQ(ask(longer).cached_tokens, 192);
  EXPECT_EQ(scheduler_->stats().kv_blocks_restored, 12u);
}

TEST_F(Persistence, OthersGoOnWhileOneWaitsForTheDisk) {
  std::mt19937 random(5);
  const Ids old = random_prompt(random, 100), writes = random_prompt(random, 40);
  start();
  ask(old);
  start();
  hold_.arm();
  ask(writes);
  hold_.wait();  // the disk's thread; what is to be read lies behind
  Answer first, twin, cancelled, late;
  scheduler_->submit(request(old, 20), first.callback());
  scheduler_->submit(request(old, 20), twin.callback());
  const RequestId id = scheduler_->submit(request(old, 20), cancelled.callback());
  GenerateRequest hurried = request(old, 20);
  hurried.timeout = std::chrono::milliseconds(5);  // of steps
  scheduler_->submit(std::move(hurried), late.callback());
  const Ids fresh = random_prompt(random, 50);
  Answer other;
  scheduler_->submit(request(fresh, 20), other.callback());
  EXPECT_EQ(other.wait().reason, FinishReason::kLength);
  EXPECT_EQ(other.tokens(), expected_tokens(fresh, 20, 400, true));
  EXPECT_EQ(late.wait().error_code, ErrorCode::kTimeout);
  scheduler_->cancel(id);  // nothing steps now
  EXPECT_EQ(cancelled.wait().reason, FinishReason::kCancelled);
  hold_.open();
  for (Answer* answer : {&first, &twin}) {
    EXPECT_GE(answer->wait().usage.cached_tokens, 96);
    EXPECT_EQ(answer->tokens(), expected_tokens(old, 20, 400, true));
  }
  testing::wait_for_free_blocks(*scheduler_);
  EXPECT_EQ(scheduler_->stats().kv_blocks_restored, 6u);  // once, for both
}

TEST_F(Persistence, EndsWhileAllWaitForTheDisk) {
  std::mt19937 random(6);
  const Ids old = random_prompt(random, 100);
  start();
  ask(old);
  start();
  hold_.arm();
  ask(random_prompt(random, 40));
  hold_.wait();
  Answer drained, stopped;
  scheduler_->submit(request(old, 20), drained.callback());
  std::thread opener([&] {
    drained.wait();
    hold_.open();
  });
  scheduler_->drain(std::chrono::milliseconds(0));
  EXPECT_EQ(drained.wait().reason, FinishReason::kCancelled);
  scheduler_.reset();
  opener.join();
}

TEST_F(Persistence, ADiskThatIsTooSlowGetsWhatIsStillInMemory) {
  std::mt19937 random(7);
  queue_blocks_ = 2;
  const Ids prompt = random_prompt(random, 300);
  start();
  hold_.arm();
  ask(prompt);
  hold_.wait();
  EXPECT_EQ(scheduler_->stats().kv_blocks_persisted, 0u);
  hold_.open();
  wait_until_written(19);  // 319 tokens
  start();
  EXPECT_EQ(ask(prompt).cached_tokens, 288);
}

TEST_F(Persistence, WithoutADiskNothingIsKept) {
  std::mt19937 random(8);
  const Ids prompt = random_prompt(random, 100);
  for (int i = 0; i < 2; ++i) {
    scheduler_.emplace(std::make_unique<HashEngine>(HashEngineOptions{.key = kKey}),
                       SchedulerOptions{});
    EXPECT_EQ(ask(prompt).cached_tokens, 0);
  }
}

// Random mixes of arrivals, common prefixes, cancels, speculation, evictions and preemptions, with
// restarts and damaged files between: every answer is right, and no block is lost.
class PersistenceMix : public Persistence, public ::testing::WithParamInterface<uint32_t> {
 protected:
  void damage(std::mt19937& random) {
    const auto path = folder_.path() / "m" / (random() % 2 == 0 ? "index" : "blocks");
    std::string bytes = read_file(path);
    if (bytes.empty()) return;
    switch (random() % 4) {
      case 0:
        bytes.resize(random() % bytes.size());
        break;
      case 1:
        for (int i = 0; i < 30; ++i) bytes[random() % bytes.size()] ^= static_cast<char>(1 + i);
        break;
      case 2:
        bytes += bytes;
        break;
      case 3:
        std::filesystem::remove(path);
        return;
    }
    std::ofstream(path, std::ios::binary) << bytes;
  }
};

TEST_P(PersistenceMix, AnswersRightlyWhateverTheDiskHolds) {
  std::mt19937 random(GetParam());
  const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
  const HashText text = GetParam() % 2 == 0 ? HashText::kRandom : HashText::kRepetitive;
  const std::vector<Ids> prefixes = {
      random_prompt(random, 130), random_prompt(random, 60), random_prompt(random, 250), {}};
  uint64_t restored = 0;
  queue_blocks_ = 1 + below(20);
  for (int life = 0; life < 5; ++life) {
    SchedulerOptions how{.max_batch_tokens = 16 + below(150), .max_sequences = 2 + below(10)};
    if (below(2) == 0) {
      how.speculation = {.mode = SpeculationMode::kNgram,
                         .depth = {.deepest = 1 + below(8), .first_pause = 1, .longest_pause = 1}};
    }
    const int32_t blocks = 25 + below(60);
    KvWindow window;
    if (GetParam() >= 13) {  // from room for one sequence's on
      window = {.tokens = 1 + static_cast<int32_t>(GetParam()) * 7, .step_tokens = 16 + below(40)};
      window.parts = std::min(blocks, static_cast<int32_t>(window.most_held(16)) + below(30));
    }
    Scheduler& scheduler = start({.blocks = blocks, .text = text, .window = window}, how);
    struct Case {
      GenerateRequest request;
      bool cancel;
      Answer answer;
    };
    std::vector<std::unique_ptr<Case>> cases;
    for (int i = 0; i < 25; ++i) {
      auto c = std::make_unique<Case>();
      Ids prompt = prefixes[random() % prefixes.size()];
      const Ids rest = random_prompt(random, 1 + below(50));
      prompt.insert(prompt.end(), rest.begin(), rest.end());
      c->request = request(std::move(prompt), below(80), below(4) == 0 ? "salt" : "");
      c->request.ignore_eos = false;
      c->request.priority = below(6) == 0 ? 1 : 0;
      c->request.client = std::string(static_cast<size_t>(below(3)), 'c');
      c->cancel = below(5) == 0;
      const RequestId id = scheduler.submit(c->request, c->answer.callback());
      if (below(4) == 0) std::this_thread::sleep_for(std::chrono::microseconds(below(3000)));
      if (c->cancel) scheduler.cancel(id);
      cases.push_back(std::move(c));
    }
    for (const auto& c : cases) {
      const GenerateEvent& last = c->answer.wait();
      const Ids expected =
          expected_tokens(c->request.prompt, c->request.max_tokens, 400, false, text);
      const Ids got = c->answer.tokens();
      ASSERT_NE(last.reason, FinishReason::kError) << last.error;
      if (last.reason != FinishReason::kCancelled) {
        EXPECT_EQ(got, expected);
      } else {
        EXPECT_TRUE(c->cancel);
        ASSERT_LE(got.size(), expected.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
      }
    }
    testing::wait_for_free_blocks(scheduler);
    restored += scheduler.stats().kv_blocks_restored;
    scheduler_.reset();
    if (below(2) == 0) damage(random);
  }
  EXPECT_GT(restored, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PersistenceMix, ::testing::Range(1u, 25u));

}  // namespace
}  // namespace mlxr
