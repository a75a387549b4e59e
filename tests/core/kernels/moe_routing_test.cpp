// Which experts a token takes, with which weights, and the order of their rows.
#include "core/kernels/cpu/moe_routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace mlxr {
namespace {

using cpu::ExpertChoice;
using cpu::RouterParams;
using cpu::RouterScore;

std::vector<float> random_logits(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

std::vector<ExpertChoice> route(const std::vector<float>& logits, const RouterParams& params,
                                const float* bias = nullptr) {
  std::vector<ExpertChoice> out(static_cast<size_t>(params.used));
  cpu::route(logits, bias, params, out.data());
  return out;
}

std::vector<double> scores_of(const std::vector<float>& logits, RouterScore kind) {
  std::vector<double> scores;
  double sum = 0;
  for (float x : logits) {
    scores.push_back(kind == RouterScore::kSoftmax ? std::exp(double{x})
                                                   : 1 / (1 + std::exp(-double{x})));
    sum += scores.back();
  }
  if (kind == RouterScore::kSoftmax) {
    for (double& s : scores) s /= sum;
  }
  return scores;
}

// In float64, by sorting.
std::vector<ExpertChoice> reference(const std::vector<float>& logits, const RouterParams& params,
                                    const std::vector<float>& bias) {
  const std::vector<double> scores = scores_of(logits, params.score);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto rank = [&](int32_t e) {
    const auto at = static_cast<size_t>(e);
    return scores[at] + (bias.empty() ? 0.0 : bias[at]);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return rank(a) > rank(b); });
  order.resize(static_cast<size_t>(params.used));
  double chosen = 0;
  for (int32_t e : order) chosen += scores[static_cast<size_t>(e)];
  std::vector<ExpertChoice> out;
  for (int32_t e : order) {
    const double weight = scores[static_cast<size_t>(e)] * params.scale;
    out.push_back({e, static_cast<float>(params.renormalize ? weight / chosen : weight)});
  }
  return out;
}

void expect_matches(size_t experts, const RouterParams& params, bool biased, uint32_t seed) {
  const auto logits = random_logits(experts, seed);
  std::vector<float> bias;
  if (biased) bias = random_logits(experts, seed + 1000);
  const auto got = route(logits, params, biased ? bias.data() : nullptr);
  const auto expected = reference(logits, params, bias);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].expert, expected[i].expert) << experts << " place " << i;
    ASSERT_NEAR(got[i].weight, expected[i].weight, 2e-6 * expected[i].weight + 1e-9);
  }
}

TEST(MoeRouting, MatchesFloat64) {
  uint32_t seed = 1;
  for (size_t experts : {1, 4, 8, 60, 128, 257}) {
    for (int32_t used : {1, 2, 4, 8}) {
      if (static_cast<size_t>(used) > experts) continue;
      for (RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
        for (bool renormalize : {false, true}) {
          const RouterParams params{
              .used = used, .score = score, .renormalize = renormalize, .scale = 2.5f};
          expect_matches(experts, params, false, seed++);
          expect_matches(experts, params, true, seed++);
        }
      }
    }
  }
}

TEST(MoeRouting, EqualLogitsGoToTheLowerExpert) {
  const auto got = route({1.0f, 3.0f, 3.0f, 3.0f}, {.used = 2, .renormalize = true});
  EXPECT_EQ(got[0].expert, 1);
  EXPECT_EQ(got[1].expert, 2);
  EXPECT_EQ(got[0].weight, 0.5f);
}

// Scores that are equal once rounded: the order is that of the logits.
TEST(MoeRouting, HugeLogitsKeepTheirOrder) {
  const auto got = route({-500.0f, -400.0f, 500.0f, -300.0f}, {.used = 3});
  EXPECT_EQ(got[0].expert, 2);
  EXPECT_EQ(got[1].expert, 3);
  EXPECT_EQ(got[2].expert, 1);
  EXPECT_EQ(got[0].weight, 1.0f);
}

TEST(MoeRouting, LogitsThatAreNoNumbersGiveExpertsAndNoWeights) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto got = route({nan, nan, nan}, {.used = 2, .renormalize = true});
  for (const ExpertChoice& c : got) {
    EXPECT_GE(c.expert, 0);
    EXPECT_LT(c.expert, 3);
    EXPECT_TRUE(std::isnan(c.weight));
  }
}

TEST(MoeRouting, SortsRowsByExpertThenToken) {
  constexpr int32_t kExperts = 7, kUsed = 3, kTokens = 50;
  std::vector<ExpertChoice> choices;
  for (uint32_t t = 0; t < kTokens; ++t) {
    const auto some =
        route(random_logits(kExperts - 1, t), {.used = kUsed});  // none takes the last
    choices.insert(choices.end(), some.begin(), some.end());
  }
  cpu::ExpertRows sorted;
  cpu::sort_by_expert(choices, kUsed, kExperts, sorted);
  ASSERT_EQ(sorted.first.size(), size_t{kExperts} + 1);
  EXPECT_EQ(sorted.first[kExperts], kTokens * kUsed);
  EXPECT_EQ(sorted.first[kExperts - 1], kTokens * kUsed);
  for (size_t i = 0; i < choices.size(); ++i) {
    const int32_t row = sorted.rows[i];
    const auto expert = static_cast<size_t>(choices[i].expert);
    ASSERT_GE(row, sorted.first[expert]);
    ASSERT_LT(row, sorted.first[expert + 1]);
    ASSERT_EQ(sorted.tokens[static_cast<size_t>(row)], static_cast<int32_t>(i) / kUsed);
  }
  for (size_t e = 0; e < kExperts; ++e) {
    EXPECT_TRUE(std::is_sorted(sorted.tokens.begin() + sorted.first[e],
                               sorted.tokens.begin() + sorted.first[e + 1]));
  }
}

}  // namespace
}  // namespace mlxr
