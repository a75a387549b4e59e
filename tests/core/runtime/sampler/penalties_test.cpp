#include "core/runtime/sampler/penalties.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

namespace mlxr {
namespace {

using Ids = std::vector<int32_t>;

// Every place of every earlier end, one by one.
std::map<int32_t, int32_t> by_force(const Ids& history, int32_t least, int32_t breaker) {
  std::map<int32_t, int32_t> longest;
  const auto n = static_cast<int64_t>(history.size());
  for (int64_t next = 1; next < n; ++next) {
    int32_t length = 0;
    while (next - 1 - length >= 0) {
      const int32_t token = history[static_cast<size_t>(n - 1 - length)];
      if (token == breaker || history[static_cast<size_t>(next - 1 - length)] != token) break;
      ++length;
    }
    if (length < std::max(least, 1)) continue;
    int32_t& known = longest[history[static_cast<size_t>(next)]];
    known = std::max(known, length);
  }
  return longest;
}

TEST(Repetitions, EqualThoseFoundByForce) {
  std::mt19937 random(5);
  for (int round = 0; round < 400; ++round) {
    const int32_t letters = 1 + static_cast<int32_t>(random() % 4);
    Ids history(random() % 40);
    for (int32_t& token : history) token = static_cast<int32_t>(random()) & 0x7fffffff;
    for (int32_t& token : history) token %= letters;
    const int32_t breaker = random() % 2 == 0 ? 0 : -1;
    const auto least = static_cast<int32_t>(random() % 4);
    const auto found =
        repetitions(history, least, [breaker](int32_t token) { return token == breaker; });
    const std::map<int32_t, int32_t> in_order(found.begin(), found.end());
    EXPECT_EQ(in_order, by_force(history, least, breaker));
  }
}

TEST(Dry, GrowsWithTheRepetition) {
  SamplingParams p;
  p.dry_multiplier = 0.8f;
  p.dry_base = 2.0f;
  p.dry_allowed_length = 2;
  const auto penalty = [&p](const Ids& history, int32_t breaker = -1) {
    std::vector<float> logits(10, 1.0f);
    apply_dry(
        p, history, [breaker](int32_t token) { return token == breaker; }, logits);
    return 1.0f - logits[4];
  };
  EXPECT_FLOAT_EQ(penalty({3, 4, 9, 3}), 0) << "one token is allowed";
  EXPECT_FLOAT_EQ(penalty({2, 3, 4, 9, 2, 3}), 0.8f);
  EXPECT_FLOAT_EQ(penalty({1, 2, 3, 4, 9, 1, 2, 3}), 1.6f);
  EXPECT_FLOAT_EQ(penalty({1, 2, 3, 4, 9, 1, 2, 3}, 2), 0) << "2 breaks";
  EXPECT_FLOAT_EQ(penalty({1, 2, 3, 4, 9, 1, 2, 3}, 1), 0.8f) << "1 breaks";
  p.dry_penalty_last_n = 6;
  EXPECT_FLOAT_EQ(penalty({1, 2, 3, 4, 9, 1, 2, 3}), 0) << "the earlier one is out of sight";
  p.dry_penalty_last_n = -1;
  const Ids endless(3000, 4);
  EXPECT_TRUE(std::isfinite(penalty(endless)));
}

TEST(Penalties, TakeTheWindowOnly) {
  SamplingParams p;
  p.repeat_penalty = 2.0f;
  p.presence_penalty = 0.5f;
  p.frequency_penalty = 0.25f;
  p.penalty_last_n = 3;
  std::vector<float> logits = {4, -4, 4, 4};
  apply_penalties(p, Ids{3, 0, 1, 0}, logits);
  EXPECT_EQ(logits, (std::vector<float>{2 - 0.5f - 0.5f, -8 - 0.5f - 0.25f, 4, 4}));
}

}  // namespace
}  // namespace mlxr
