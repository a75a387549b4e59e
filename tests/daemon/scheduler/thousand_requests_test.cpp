// A thousand requests at once for a real, tiny model that the manager loaded, a hundred of them
// cancelled at random: every answer is the one that its prompt gets alone, no block is lost, and
// memory does not grow.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "daemon/scheduler/model_manager.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/own_memory.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

using testing::Answer;
using testing::greedy_request;
using testing::own_memory;
using Ids = std::vector<int32_t>;

constexpr int kRequests = 1000, kCancelled = 100, kPrompts = 40;

struct Question {
  Ids prompt;
  int32_t max_tokens = 0;
};

// Some share a beginning, so that prefixes are shared as well.
std::vector<Question> questions(std::mt19937& random) {
  const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
  const auto words = [&](int32_t count) {
    Ids ids;
    for (int32_t i = 0; i < count; ++i) ids.push_back(10 + below(6000));
    return ids;
  };
  const std::vector<Ids> beginnings = {words(40), words(17), {}};
  std::vector<Question> all;
  for (int i = 0; i < kPrompts; ++i) {
    Question q{beginnings[random() % beginnings.size()], 1 + below(16)};
    const Ids rest = words(1 + below(24));
    q.prompt.insert(q.prompt.end(), rest.begin(), rest.end());
    all.push_back(std::move(q));
  }
  return all;
}

TEST(ThousandRequests, AreAnsweredAsAloneAndLeaveNothingBehind) {
  ModelManagerOptions options;
  options.threads = 2;
  options.scheduler.max_queue = kRequests;
  options.model_folders = {testing::source_dir() / "models"};
  options.memory_bytes = int64_t{1} << 30;
  // Too little for all that run: some are computed again, and cached prefixes make room.
  options.engine = {.context_length = 128, .kv_bytes = int64_t{2} << 20};
  ModelManager manager(options, nullptr);
  const auto model = manager.acquire("mlxr-demo-draft");
  Scheduler& scheduler = model->scheduler();

  std::mt19937 random(7);
  const std::vector<Question> asked = questions(random);
  std::vector<Ids> alone;
  for (const Question& q : asked) {
    Answer answer;
    scheduler.submit(greedy_request(q.prompt, q.max_tokens), answer.callback());
    ASSERT_NE(answer.wait().reason, FinishReason::kError);
    alone.push_back(answer.tokens());
  }

  const auto round = [&] {
    std::set<int> to_cancel;
    while (to_cancel.size() < kCancelled) to_cancel.insert(static_cast<int>(random() % kRequests));
    std::vector<std::unique_ptr<Answer>> answers;
    std::vector<size_t> which;
    std::vector<RequestId> ids;
    for (int i = 0; i < kRequests; ++i) {
      which.push_back(random() % asked.size());
      const Question& q = asked[which.back()];
      answers.push_back(std::make_unique<Answer>());
      GenerateRequest request = greedy_request(q.prompt, q.max_tokens);
      request.client = std::string(1, static_cast<char>('a' + i % 5));
      ids.push_back(scheduler.submit(std::move(request), answers.back()->callback()));
    }
    // At random moments: each when another answer, somewhere in the queue, has come.
    for (const int i : to_cancel) {
      if (random() % 3 == 0) answers[random() % static_cast<size_t>(i + 1)]->wait();
      scheduler.cancel(ids[static_cast<size_t>(i)]);
    }
    int cancelled = 0;
    for (int i = 0; i < kRequests; ++i) {
      const auto at = static_cast<size_t>(i);
      const GenerateEvent& last = answers[at]->wait();
      const Ids got = answers[at]->tokens(), &expected = alone[which[at]];
      ASSERT_NE(last.reason, FinishReason::kError) << last.error;
      if (last.reason == FinishReason::kCancelled) {
        ++cancelled;
        EXPECT_TRUE(to_cancel.contains(i));
        ASSERT_LE(got.size(), expected.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
      } else {
        EXPECT_EQ(got, expected) << "request " << i;
      }
    }
    EXPECT_GT(cancelled, 0);
    testing::wait_for_free_blocks(scheduler);
    EXPECT_EQ(scheduler.stats().waiting, 0);
  };
  round();
  const int64_t before = own_memory();
  round();
  const int64_t after = own_memory();
  // The arena was full after the first round; what comes and goes is less than this.
  EXPECT_LE(after, before + (int64_t{4} << 20)) << "grown by " << (after - before) << " bytes";
  EXPECT_GE(scheduler.stats().requests, 2u * kRequests);
  EXPECT_GT(scheduler.stats().prefix_hit_tokens, 10000u);
}

}  // namespace
}  // namespace mlxr
