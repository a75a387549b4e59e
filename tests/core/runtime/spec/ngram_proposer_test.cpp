#include "core/runtime/spec/ngram_proposer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/base/error.h"

namespace mlxr {
namespace {

using Ids = std::vector<int32_t>;

// The latest earlier place of the longest end, sought one by one.
Ids by_force(Ids text, const NgramOptions& options, int32_t most) {
  for (int32_t n = options.longest; n >= options.shortest; --n) {
    const auto size = static_cast<size_t>(n);
    if (text.size() <= size) continue;
    for (size_t next = text.size() - 1; next >= size; --next) {
      if (!std::equal(text.end() - n, text.end(), text.begin() + static_cast<int64_t>(next) - n)) {
        continue;
      }
      const size_t begin = text.size();
      for (size_t i = next; text.size() < begin + static_cast<size_t>(most); ++i) {
        text.push_back(text[i]);
      }
      return {text.begin() + static_cast<int64_t>(begin), text.end()};
    }
  }
  return {};
}

TEST(NgramProposer, EqualsASearchByForceAsTheTextGrows) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const NgramOptions options{.longest = 1 + static_cast<int32_t>(random() % 4), .shortest = 1};
    NgramProposer proposer(options);
    const uint32_t letters = 2 + random() % 6;
    Ids text;
    int proposed = 0;
    for (int i = 0; i < 80; ++i) {
      for (uint32_t n = random() % 4; n > 0; --n) {
        text.push_back(static_cast<int32_t>(random() % letters));
      }
      const auto most = static_cast<int32_t>(random() % 7);
      const Ids expected = most > 0 ? by_force(text, options, most) : Ids{};
      EXPECT_EQ(proposer.propose(text, most).tokens, expected);
      proposed += expected.empty() ? 0 : 1;
    }
    EXPECT_GT(proposed, 20);
  }
}

TEST(NgramProposer, UnrollsALoop) {
  NgramProposer proposer;
  EXPECT_EQ(proposer.propose(Ids{9, 1, 2, 3, 1, 2, 3, 1, 2}, 7).tokens, (Ids{3, 1, 2, 3, 1, 2, 3}));
}

TEST(NgramProposer, ProposesNothingWhereNothingRepeats) {
  NgramProposer proposer;
  EXPECT_TRUE(proposer.propose(Ids{1, 2, 3, 4, 5}, 4).tokens.empty());
  EXPECT_TRUE(proposer.propose(Ids{}, 4).tokens.empty());
}

TEST(NgramProposer, ATextThatWasCutIsReadAnew) {
  NgramProposer proposer;
  proposer.propose(Ids{1, 2, 3, 4, 1, 2}, 2);
  EXPECT_EQ(proposer.propose(Ids{1, 2, 7, 1, 2}, 2).tokens, (Ids{7, 1}));
}

TEST(NgramProposer, RefusesLengthsThatMakeNoSense) {
  EXPECT_THROW(NgramProposer({.longest = 1, .shortest = 2}), Error);
  EXPECT_THROW(NgramProposer({.longest = 1, .shortest = 0}), Error);
}

}  // namespace
}  // namespace mlxr
