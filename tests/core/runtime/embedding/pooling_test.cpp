// Pooling against values worked out by hand, in one piece and in many.
#include "core/runtime/embedding/pooling.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mlxr {
namespace {

using Floats = std::vector<float>;
using Wants = Pooler::Wants;

const std::vector<Floats> kStates{{1, 2, -4}, {3, 2, 0}, {5, -1, 1}};

Floats pooled(Pooling pooling) {
  Pooler pooler(pooling);
  for (size_t t = 0; t < kStates.size(); ++t) pooler.add(static_cast<int64_t>(t), kStates[t]);
  return pooler.result();
}

TEST(Pooling, TakesTheMeanTheFirstOrTheLast) {
  EXPECT_EQ(pooled(Pooling::kMean), (Floats{3, 1, -1}));
  EXPECT_EQ(pooled(Pooling::kCls), kStates[0]);
  EXPECT_EQ(pooled(Pooling::kLast), kStates[2]);
}

TEST(Pooling, AsksForTheStatesThatItNeeds) {
  const Pooler mean(Pooling::kMean), cls(Pooling::kCls), last(Pooling::kLast);
  EXPECT_EQ(mean.wants(0, 4, 10), Wants::kAll);
  EXPECT_EQ(mean.wants(8, 10, 10), Wants::kAll);
  EXPECT_EQ(cls.wants(0, 4, 10), Wants::kAll);
  EXPECT_EQ(cls.wants(4, 8, 10), Wants::kNothing);
  EXPECT_EQ(cls.wants(8, 10, 10), Wants::kLast);  // so that its end is heard of
  EXPECT_EQ(last.wants(0, 4, 10), Wants::kNothing);
  EXPECT_EQ(last.wants(4, 10, 10), Wants::kLast);
}

TEST(Pooling, NormalizesToLengthOne) {
  const Floats out = normalized({3, 0, -4});
  EXPECT_FLOAT_EQ(out[0], 0.6f);
  EXPECT_FLOAT_EQ(out[1], 0);
  EXPECT_FLOAT_EQ(out[2], -0.8f);
  EXPECT_EQ(normalized({0, 0}), (Floats{0, 0}));
  // Squares that float32 could not hold.
  EXPECT_FLOAT_EQ(normalized({3e30f, 4e30f})[1], 0.8f);
}

TEST(Pooling, ShortensAndNormalizesAgain) {
  const Floats out = shortened(normalized({3, 4, 12}), 2);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_FLOAT_EQ(out[0], 0.6f);
  EXPECT_FLOAT_EQ(out[1], 0.8f);
  EXPECT_EQ(shortened({0.6f, 0.8f}, 2), (Floats{0.6f, 0.8f}));
}

TEST(Pooling, ComparesByTheCosine) {
  EXPECT_DOUBLE_EQ(cosine(Floats{1, 0}, Floats{0, 5}), 0);
  EXPECT_NEAR(cosine(Floats{2, 2}, Floats{3, 3}), 1, 1e-12);
  EXPECT_NEAR(cosine(Floats{1, 1}, Floats{-1, -1}), -1, 1e-12);
  EXPECT_NEAR(cosine(Floats{1, 0}, Floats{1, 1}), std::sqrt(0.5), 1e-12);
  EXPECT_EQ(cosine(Floats{0, 0}, Floats{1, 1}), 0);
}

TEST(Pooling, HasNames) {
  for (const PoolingName& entry : kPoolings) {
    EXPECT_EQ(pooling_of(entry.name), entry.pooling);
  }
  EXPECT_FALSE(pooling_of("max").has_value());
}

}  // namespace
}  // namespace mlxr
