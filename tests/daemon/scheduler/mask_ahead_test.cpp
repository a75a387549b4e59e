#include "daemon/scheduler/mask_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "tests/core/runtime/tokenizer/demo_vocab.h"

namespace mlxr::testing {
namespace {

using Words = std::vector<uint32_t>;

class MaskAheadTest : public ::testing::Test {
 protected:
  std::vector<AnswerConstraint> answers(const std::string& regex, size_t count) {
    const auto constraint = compiler_.compile({ConstraintSpec::Kind::kRegex, regex});
    std::vector<AnswerConstraint> made;
    for (size_t i = 0; i < count; ++i) {
      made.emplace_back(constraint.get(), demo_tokenizer()->vocab_size(), FreeParts{},
                        std::span<const int32_t>{});
    }
    return made;
  }
  static Words words(AnswerConstraint& answer) {
    const auto mask = answer.mask();
    return {mask.begin(), mask.end()};
  }

  ConstraintCompiler compiler_{demo_tokenizer(), {0, 2}};
};

TEST_F(MaskAheadTest, MasksAreTheSameStepAfterStep) {
  auto ahead = answers("(red|green|blue)+ [0-9]{3}", 20),
       alone = answers("(red|green|blue)+ [0-9]{3}", 1);
  const auto ids = demo_tokenizer()->encode("redgreenblue 123", false, false);
  MaskAhead masks;
  for (const int32_t id : ids) {
    std::vector<AnswerConstraint*> step{nullptr};
    for (AnswerConstraint& answer : ahead) step.push_back(&answer);
    masks.begin(step);
    masks.wait();
    const Words expected = words(alone[0]);
    for (AnswerConstraint& answer : ahead) {
      EXPECT_TRUE(answer.has_mask());
      EXPECT_EQ(words(answer), expected);
      answer.accept(id);
    }
    alone[0].accept(id);
    EXPECT_FALSE(ahead[0].has_mask());
  }
}

TEST_F(MaskAheadTest, NothingToDoIsNoWait) {
  MaskAhead masks;
  masks.wait();
  masks.begin({});
  masks.begin({nullptr});
  masks.wait();
}

// A matcher that took what its grammar forbids is of no use any more.
TEST_F(MaskAheadTest, WhatThrowsIsHeardByTheAnswer) {
  auto broken = answers("yes", 1), good = answers("yes", 1);
  const auto no = demo_tokenizer()->encode("no", false, false);
  EXPECT_THROW(broken[0].accept(no[0]), Error);
  MaskAhead masks;
  masks.begin({&broken[0], &good[0]});
  masks.wait();
  EXPECT_TRUE(good[0].has_mask());
  EXPECT_FALSE(broken[0].has_mask());
  EXPECT_THROW(broken[0].mask(), Error);
}

}  // namespace
}  // namespace mlxr::testing
