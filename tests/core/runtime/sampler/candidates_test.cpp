// Each truncation against a plain float64 version over the whole row.
#include "core/runtime/sampler/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

namespace mlxr {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_row(uint32_t seed, size_t n, float deviation = 2.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

Candidates all_of(const std::vector<float>& row) {
  Candidates all;
  for (size_t i = 0; i < row.size(); ++i) all.push_back({static_cast<int32_t>(i), row[i]});
  return all;
}

std::vector<double> exact_softmax(const Candidates& candidates) {
  double most = -INFINITY, sum = 0;
  for (const Candidate& c : candidates) most = std::max<double>(most, c.logit);
  std::vector<double> p;
  for (const Candidate& c : candidates) p.push_back(std::exp(c.logit - most));
  for (const double x : p) sum += x;
  for (double& x : p) x /= sum;
  return p;
}

Candidates sorted(Candidates candidates) {
  std::sort(candidates.begin(), candidates.end(), is_better);
  return candidates;
}

std::set<int32_t> tokens_of(const Candidates& candidates) {
  std::set<int32_t> tokens;
  for (const Candidate& c : candidates) tokens.insert(c.token);
  return tokens;
}

double entropy_of(const Candidates& candidates) {
  double entropy = 0;
  for (const double p : exact_softmax(candidates)) entropy -= p * std::log(p);
  return entropy;
}

// Runs `check` on rows of many sizes and shapes.
template <class Check>
void on_rows(Check check) {
  uint32_t seed = 1;
  for (const size_t n : {1, 2, 3, 17, 300, 5000}) {
    for (const float deviation : {0.01f, 1.0f, 4.0f}) check(random_row(seed++, n, deviation));
  }
}

TEST(Candidates, CollectLeavesInfinitiesOut) {
  Candidates out;
  const std::vector<float> row = {1, -kInfinity, 3, kInfinity, 2};
  collect(row, 1.5f, out);
  EXPECT_EQ(tokens_of(out), (std::set<int32_t>{2, 4}));
  collect_best({row.data(), 3}, 5, out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].token, 2);
  EXPECT_EQ(out[1].token, 0);
}

TEST(Candidates, NucleusIsTheFewestBestThatHoldTheMass) {
  on_rows([](const std::vector<float>& row) {
    const Candidates best = sorted(all_of(row));
    const auto p = exact_softmax(best);
    for (const double mass : {0.01, 0.5, 0.9, 0.999}) {
      Candidates kept = all_of(row);
      keep_nucleus(kept, mass);
      double before = 0;
      for (size_t i = 0; i + 1 < kept.size(); ++i) before += p[i];
      EXPECT_LT(before, mass + 1e-5);
      EXPECT_GT(before + p[kept.size() - 1], mass - 1e-5);
      Candidates from_row;
      collect_nucleus(row, mass, from_row);
      // Both add floats up, in different groups.
      EXPECT_NEAR(static_cast<double>(from_row.size()), static_cast<double>(kept.size()),
                  1 + 1e-3 * static_cast<double>(kept.size()));
      for (size_t i = 0; i < std::min(kept.size(), from_row.size()); ++i) {
        EXPECT_EQ(kept[i].token, best[i].token);
        EXPECT_EQ(from_row[i].token, best[i].token);
      }
    }
  });
}

TEST(Candidates, TypicalKeepsWhatIsNearestToTheEntropy) {
  on_rows([](const std::vector<float>& row) {
    const Candidates all = all_of(row);
    const auto p = exact_softmax(all);
    const double entropy = entropy_of(all);
    const auto distance = [&](size_t i) { return std::abs(-std::log(p[i]) - entropy); };
    Candidates kept = all;
    keep_typical(kept, 0.6);
    const auto tokens = tokens_of(kept);
    double farthest = 0, mass = 0;
    for (const int32_t token : tokens) {
      const auto i = static_cast<size_t>(token);
      farthest = std::max(farthest, distance(i));
      mass += p[i];
    }
    EXPECT_GT(mass, 0.6 - 1e-5);
    for (size_t i = 0; i < row.size(); ++i) {
      if (tokens.contains(static_cast<int32_t>(i))) continue;
      EXPECT_GE(distance(i), farthest - 1e-4);
    }
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(), is_better));
  });
}

TEST(Candidates, MinPIsAShareOfTheBest) {
  on_rows([](const std::vector<float>& row) {
    const Candidates all = all_of(row);
    const auto p = exact_softmax(all);
    const double best = *std::max_element(p.begin(), p.end());
    Candidates kept = all;
    keep_min_p(kept, 0.1f);
    const auto tokens = tokens_of(kept);
    for (size_t i = 0; i < row.size(); ++i) {
      if (std::abs(p[i] / best - 0.1) < 1e-5) continue;
      EXPECT_EQ(tokens.contains(static_cast<int32_t>(i)), p[i] >= 0.1 * best);
    }
  });
}

TEST(Candidates, NSigmaIsDeviationsBelowTheBest) {
  on_rows([](std::vector<float> row) {
    double mean = 0, variance = 0;
    for (const double x : row) mean += x / static_cast<double>(row.size());
    for (const double x : row)
      variance += (x - mean) * (x - mean) / static_cast<double>(row.size());
    const double best = *std::max_element(row.begin(), row.end());
    row.push_back(-kInfinity);  // as a mask leaves it
    EXPECT_NEAR(n_sigma_floor(row, 1.5f), best - 1.5 * std::sqrt(variance), 1e-3);
  });
}

TEST(Candidates, ExcludingTopChoicesLeavesTheLeastOfThem) {
  on_rows([](const std::vector<float>& row) {
    const Candidates best = sorted(all_of(row));
    const auto p = exact_softmax(best);
    for (const float threshold : {0.05f, 0.2f, 0.6f}) {
      size_t top = 0;
      while (top < p.size() && p[top] >= threshold) ++top;
      const size_t gone = top < 2 ? 0 : top - 1;
      Candidates kept = all_of(row);
      exclude_top_choices(kept, threshold);
      EXPECT_EQ(tokens_of(kept),
                tokens_of({best.begin() + static_cast<std::ptrdiff_t>(gone), best.end()}));
    }
  });
}

TEST(Candidates, DynamicTemperatureFollowsTheEntropy) {
  on_rows([](const std::vector<float>& row) {
    const Candidates all = all_of(row);
    if (all.size() < 2) return;
    const double share = entropy_of(all) / std::log(static_cast<double>(all.size()));
    EXPECT_NEAR(dynamic_temperature(all, 1.0f, 0.5f, 2.0f), 0.5 + share * share, 1e-3);
  });
  EXPECT_NEAR(dynamic_temperature(all_of({1, 1, 1}), 1.0f, 0.5f, 1.0f), 1.5, 1e-5);
  EXPECT_NEAR(dynamic_temperature(all_of({100, 1, 1}), 1.0f, 0.5f, 1.0f), 0.5, 1e-5);
  EXPECT_GT(dynamic_temperature(all_of({100, 1, 1}), 0.5f, 2.0f, 1.0f), 0.0f);
}

TEST(Candidates, MirostatBoundsTheSurprise) {
  on_rows([](const std::vector<float>& row) {
    const Candidates best = sorted(all_of(row));
    const auto p = exact_softmax(best);
    for (const float mu : {0.5f, 3.0f, 9.0f}) {
      size_t count = 1;
      while (count < p.size() && -std::log2(p[count]) <= mu) ++count;
      Candidates kept = all_of(row);
      keep_mirostat(kept, mu);
      EXPECT_NEAR(static_cast<double>(kept.size()), static_cast<double>(count), 1);
      for (size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i].token, best[i].token);
    }
  });
}

TEST(Candidates, MirostatOneFindsZipfsExponent) {
  // p of rank r is r^-s: k solves the paper's equation with s itself.
  constexpr double kS = 1.3;
  constexpr int kVocab = 5000;
  std::vector<float> row;
  for (int rank = 1; rank <= kVocab; ++rank) {
    row.push_back(static_cast<float>(-kS * std::log(rank)));
  }
  for (const double mu : {2.0, 4.0, 7.0}) {
    const double k = std::pow((kS - 1) * std::exp2(mu) / (1 - std::pow(kVocab, 1 - kS)), 1 / kS);
    Candidates kept = all_of(row);
    keep_mirostat_v1(kept, static_cast<float>(mu), kVocab);
    EXPECT_NEAR(static_cast<double>(kept.size()), std::max(1.0, k), 1.0);
    EXPECT_EQ(kept.front().token, 0);
  }
}

}  // namespace
}  // namespace mlxr
