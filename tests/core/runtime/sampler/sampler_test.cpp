// Each transform against a plain float64 oracle over the whole vocabulary, and the draw against the
// distribution that it should have.
#include "core/runtime/sampler/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "core/base/error.h"
#include "core/runtime/sampler/random.h"

namespace mlxr {
namespace {

constexpr int32_t kVocab = 50;

SamplingParams off() {
  SamplingParams p;
  p.temperature = 1.0f;
  p.top_k = 0;
  p.top_p = 1.0f;
  p.min_p = 0.0f;
  p.seed = 1;
  return p;
}

std::vector<float> random_logits(uint32_t seed, int32_t n = kVocab) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

// Probabilities as the header describes them, written for clarity.
std::map<int32_t, double> oracle(std::vector<float> logits, const std::vector<int32_t>& history,
                                 const SamplingParams& p) {
  for (const auto& [token, bias] : p.logit_bias) logits[static_cast<size_t>(token)] += bias;
  std::map<int32_t, int> counts;
  const size_t window =
      p.penalty_last_n < 0 ? history.size() : std::min(history.size(), size_t(p.penalty_last_n));
  for (size_t i = history.size() - window; i < history.size(); ++i) ++counts[history[i]];
  for (const auto& [token, count] : counts) {
    float& x = logits[static_cast<size_t>(token)];
    x = x > 0 ? x / p.repeat_penalty : x * p.repeat_penalty;
    x -= p.presence_penalty + p.frequency_penalty * static_cast<float>(count);
  }
  std::vector<std::pair<double, int32_t>> all;
  for (size_t i = 0; i < logits.size(); ++i) all.emplace_back(logits[i], static_cast<int32_t>(i));
  std::sort(all.rbegin(), all.rend());
  if (p.top_k > 0) all.resize(std::min(all.size(), size_t(p.top_k)));
  const auto probabilities = [&] {
    std::vector<double> out;
    double sum = 0;
    for (const auto& [x, t] : all) sum += std::exp(x - all[0].first);
    for (const auto& [x, t] : all) out.push_back(std::exp(x - all[0].first) / sum);
    return out;
  };
  if (p.typical_p < 1) {
    const auto q = probabilities();
    double entropy = 0;
    for (double x : q) entropy -= x * std::log(x);
    std::vector<size_t> order(q.size());
    for (size_t i = 0; i < q.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::abs(-std::log(q[a]) - entropy) < std::abs(-std::log(q[b]) - entropy);
    });
    double sum = 0;
    std::vector<std::pair<double, int32_t>> kept;
    for (size_t i : order) {
      kept.push_back(all[i]);
      if ((sum += q[i]) >= p.typical_p) break;
    }
    std::sort(kept.rbegin(), kept.rend());
    all = kept;
  }
  if (p.top_p < 1) {
    const auto q = probabilities();
    double sum = 0;
    size_t n = 0;
    while (n < q.size() && sum < p.top_p) sum += q[n++];
    all.resize(n);
  }
  if (p.min_p > 0) {
    std::erase_if(all, [&, most = all[0].first](const auto& c) {
      return c.first < most + std::log(p.min_p);
    });
  }
  for (auto& c : all) c.first /= p.temperature;
  const auto q = probabilities();
  std::map<int32_t, double> out;
  for (size_t i = 0; i < all.size(); ++i) out[all[i].second] = q[i];
  return out;
}

// Draws at many positions and compares counts with the oracle (chi-square, fixed seeds).
void expect_distribution(const SamplingParams& params, const std::vector<float>& logits,
                         const std::vector<int32_t>& history = {}) {
  constexpr int kDraws = 20000;
  Sampler sampler(params, static_cast<int32_t>(logits.size()));
  const auto expected = oracle(logits, history, params);
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits, history, i).token];
  double chi = 0;
  for (const auto& [token, count] : counts) {
    ASSERT_TRUE(expected.contains(token)) << "token " << token << " should have been cut";
  }
  int cells = 0;
  for (const auto& [token, p] : expected) {
    if (p * kDraws < 8) continue;
    ++cells;
    chi += std::pow(counts[token] - p * kDraws, 2) / (p * kDraws);
  }
  // Five standard deviations above the mean of the chi-square distribution.
  EXPECT_LT(chi, cells + 5 * std::sqrt(2.0 * cells) + 5);
}

TEST(Sampler, EachTransformMatchesTheOracle) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const auto logits = random_logits(seed);
    const std::vector<int32_t> history = {3, 7, 7, 12, 3, 3, 44};
    SamplingParams p = off();
    expect_distribution(p, logits);
    p.temperature = 0.6f;
    expect_distribution(p, logits);
    p = off(), p.top_k = 7;
    expect_distribution(p, logits);
    p = off(), p.top_p = 0.7f;
    expect_distribution(p, logits);
    p = off(), p.min_p = 0.1f;
    expect_distribution(p, logits);
    p = off(), p.typical_p = 0.5f;
    expect_distribution(p, logits);
    p = off(), p.repeat_penalty = 1.8f, p.presence_penalty = 0.4f, p.frequency_penalty = 0.3f;
    expect_distribution(p, logits, history);
    p.penalty_last_n = 2;
    expect_distribution(p, logits, history);
    p = off(), p.logit_bias = {{5, 3.0f}, {6, -100.0f}};
    expect_distribution(p, logits);
    p = SamplingParams(), p.seed = 9, p.typical_p = 0.9f, p.repeat_penalty = 1.1f;
    expect_distribution(p, logits, history);
  }
}

TEST(Sampler, ANucleusLargerThanAFirstGuessIsStillExact) {
  SamplingParams p = off();
  p.top_p = 0.999f;
  p.temperature = 2.0f;
  std::vector<float> flat(3000);
  for (size_t i = 0; i < flat.size(); ++i) flat[i] = 1e-4f * static_cast<float>(i % 1000);
  const auto allowed = oracle(flat, {}, p);
  ASSERT_GT(allowed.size(), 2900u);
  ASSERT_LT(allowed.size(), 3000u);
  Sampler sampler(p, 3000);
  for (int i = 0; i < 2000; ++i) {
    EXPECT_TRUE(allowed.contains(sampler.sample(flat, {}, i).token));
  }
}

TEST(Sampler, GreedyTakesTheFirstOfTheBest) {
  SamplingParams p;
  p.temperature = 0;
  Sampler sampler(p, 5);
  const std::vector<float> logits = {0, 3, 1, 3, -std::numeric_limits<float>::infinity()};
  EXPECT_EQ(sampler.sample(logits, {}, 0).token, 1);
  p.logit_bias = {{1, -50.0f}};
  EXPECT_EQ(Sampler(p, 5).sample(logits, {}, 0).token, 3);
}

TEST(Sampler, SameSeedAndPositionGiveTheSameToken) {
  SamplingParams p = off();
  p.seed = 1234;
  const auto logits = random_logits(8);
  Sampler a(p, kVocab), b(p, kVocab);
  for (int i = 0; i < 50; ++i) b.sample(random_logits(99), {}, i);  // history does not matter
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(a.sample(logits, {}, i).token, b.sample(logits, {}, i).token);
  }
  p.seed.reset();
  EXPECT_NE(Sampler(p, kVocab).seed(), Sampler(p, kVocab).seed());
}

TEST(Sampler, LogprobsAreOfTheUnmodifiedLogits) {
  SamplingParams p = off();
  p.logit_bias = {{4, 100.0f}};
  const auto logits = random_logits(2);
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x));
  const SampledToken out = Sampler(p, kVocab).sample(logits, {}, 0, 5);
  EXPECT_EQ(out.token, 4);
  EXPECT_NEAR(out.logprob, logits[4] - std::log(sum), 1e-5);
  ASSERT_EQ(out.top.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    const auto t = static_cast<size_t>(out.top[i].token);
    EXPECT_NEAR(out.top[i].logprob, logits[t] - std::log(sum), 1e-5);
    if (i > 0) {
      EXPECT_LE(out.top[i].logprob, out.top[i - 1].logprob);
    }
  }
}

TEST(Sampler, XtcExcludesAtItsProbability) {
  const std::vector<float> logits = {3.0f, 2.9f, 2.8f, 0.0f};
  SamplingParams p = off();
  p.xtc_threshold = 0.2f;
  p.xtc_probability = 0.4f;
  Sampler sampler(p, 4);
  constexpr int kDraws = 20000;
  int best = 0;
  for (int i = 0; i < kDraws; ++i) best += sampler.sample(logits, {}, i).token < 2 ? 1 : 0;
  // Of the three likely ones only the last stays where the coin says so.
  double sum = 0;
  for (const float x : logits) sum += std::exp(x);
  const double expected = 0.6 * (std::exp(3.0) + std::exp(2.9)) / sum;
  EXPECT_NEAR(best / double{kDraws}, expected, 0.015);
}

TEST(Sampler, TopNSigmaAndDynamicTemperatureShapeTheDistribution) {
  const auto logits = random_logits(5, 400);
  SamplingParams p = off();
  p.top_n_sigma = 1.0f;
  Sampler narrow(p, 400);
  const auto& kept = narrow.distribution(logits, {}, 0).candidates;
  Candidates expected;
  collect(logits, n_sigma_floor(logits, 1.0f), expected);
  EXPECT_EQ(kept.size(), expected.size());
  EXPECT_GT(kept.size(), 1u);
  p = off();
  p.top_k = 20;
  p.dynatemp_range = 0.5f;
  Sampler sampler(p, 400);
  const Distribution& got = sampler.distribution(logits, {}, 0);
  Candidates best;
  collect_best(logits, 20, best);
  std::vector<float> q;
  softmax(best, dynamic_temperature(best, 1.0f, 0.5f, 1.0f), q);
  EXPECT_EQ(got.probabilities, q);
}

TEST(Sampler, MirostatKeepsToItsSurprise) {
  for (const int version : {1, 2}) {
    SamplingParams p = off();
    p.mirostat = version;
    p.mirostat_tau = 3.0f;
    p.mirostat_eta = 0.1f;
    Sampler sampler(p, 2000);
    double surprise = 0;
    int count = 0;
    for (int i = 0; i < 600; ++i) {
      const auto logits = random_logits(static_cast<uint32_t>(i) + 1, 2000);
      const Distribution& d = sampler.distribution(logits, {}, i);
      const int32_t token = d.draw((i * 37 % 101 + 0.5) / 101);
      if (i >= 200) {
        surprise -= std::log2(d.of(token));
        ++count;
      }
      sampler.chose(token);
    }
    EXPECT_NEAR(surprise / count, 3.0, 0.3) << version;
  }
}

TEST(Sampler, OnlyWhatTheMaskAllowsIsChosen) {
  const auto logits = random_logits(4, 70);
  const std::vector<uint32_t> mask = {0x80000001u, 0u, 0x30u};  // 0, 31, 68, 69
  for (const float temperature : {0.0f, 1.5f}) {
    for (const int top_k : {0, 2}) {
      SamplingParams p = off();
      p.temperature = temperature;
      p.top_k = top_k;
      p.logit_bias = {{5, 100.0f}};  // forbidden all the same
      Sampler sampler(p, 70);
      std::map<int32_t, int> seen;
      for (int i = 0; i < 2000; ++i) ++seen[sampler.sample(logits, {}, i, -1, mask).token];
      for (const auto& [token, count] : seen) {
        EXPECT_TRUE(token == 0 || token == 31 || token == 68 || token == 69) << token;
      }
      EXPECT_EQ(seen.size(), temperature == 0 ? 1u : top_k == 2 ? 2u : 4u);
    }
  }
  Sampler sampler(off(), 70);
  EXPECT_THROW(sampler.sample(logits, {}, 0, -1, std::vector<uint32_t>(3)), Error);
  // The model's own probabilities, whatever was allowed.
  EXPECT_EQ(sampler.sample(logits, {}, 0, 1, mask).top, sampler.sample(logits, {}, 0, 1).top);
}

TEST(Sampler, DryBreaksAtTheTextsThatEndARepetition) {
  SamplingParams p = off();
  p.temperature = 0;
  p.dry_multiplier = 100.0f;
  p.dry_sequence_breakers = {":"};
  const std::vector<float> logits = {0, 0, 0, 0, 1, 0.5f};
  const std::vector<int32_t> history = {1, 2, 3, 4, 0, 1, 2, 3};
  const auto choice = [&](const std::string& text_of_two) {
    Sampler sampler(p, 6, [&](int32_t token) { return token == 2 ? text_of_two : "x"; });
    return sampler.sample(logits, history, 8).token;
  };
  EXPECT_EQ(choice("word"), 5);
  EXPECT_EQ(choice("word: "), 4);
}

TEST(Sampler, RefusesWhatIsOutOfRangeByName) {
  const auto message = [](auto change) {
    SamplingParams p = off();
    change(p);
    try {
      Sampler sampler(p, kVocab);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(message([](auto& p) { p.temperature = -1; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.temperature = NAN; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_p = 0; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.min_p = 2; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.mirostat = 3; }).find("mirostat"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.dry_base = 0; }).find("dry_base"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.xtc_probability = 2; }).find("xtc_prob"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](auto& p) {
              p.logit_bias = {{kVocab, 1.0f}};
            }).find("50"),
            std::string::npos);
}

TEST(Sampler, LogitsThatAreNotNumbersAreAnError) {
  Sampler sampler(off(), 3);
  EXPECT_THROW(sampler.sample(std::vector<float>{1, NAN, 2}, {}, 0), Error);
}

TEST(Sampler, AfterACutItDrawsAsOneWithTheNextSeed) {
  SamplingParams p = off();
  Sampler cut(p, kVocab), fresh_before(p, kVocab);
  p.seed = next_seed(*p.seed);
  Sampler fresh(p, kVocab);
  cut.go_on_with_next_seed();
  EXPECT_EQ(cut.seed(), *p.seed);
  int same = 0;
  for (int64_t position = 0; position < 100; ++position) {
    const auto logits = random_logits(static_cast<uint32_t>(position));
    const int32_t token = cut.sample(logits, {}, position).token;
    EXPECT_EQ(token, fresh.sample(logits, {}, position).token);
    same += token == fresh_before.sample(logits, {}, position).token ? 1 : 0;
  }
  EXPECT_LT(same, 60);
  // Choices of one request have seeds in a row; theirs do not meet.
  EXPECT_NE(next_seed(1), next_seed(2));
  EXPECT_NE(next_seed(1), 2u);
}

}  // namespace
}  // namespace mlxr
