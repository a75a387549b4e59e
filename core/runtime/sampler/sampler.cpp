#include "core/runtime/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <unordered_map>

#include "core/base/error.h"

namespace mlxr {
namespace {

void require(bool good, const char* name, float value, const char* range) {
  if (good) return;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(name) + " is " + std::to_string(value) + "; it must be " + range);
}

void check(const SamplingParams& p) {
  require(p.temperature >= 0 && p.temperature <= 100, "temperature", p.temperature,
          "between 0 and 100");
  require(p.top_k >= 0, "top_k", static_cast<float>(p.top_k), "0 (off) or more");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "between 0 and 1");
  require(p.typical_p > 0 && p.typical_p <= 1, "typical_p", p.typical_p, "above 0 and at most 1");
  require(p.repeat_penalty > 0 && p.repeat_penalty <= 100, "repeat_penalty", p.repeat_penalty,
          "above 0 and at most 100");
  require(std::isfinite(p.presence_penalty), "presence_penalty", p.presence_penalty, "finite");
  require(std::isfinite(p.frequency_penalty), "frequency_penalty", p.frequency_penalty, "finite");
  require(p.penalty_last_n >= -1, "penalty_last_n", static_cast<float>(p.penalty_last_n),
          "-1 (the whole sequence) or more");
}

// A uniform number in [0, 1), a function of (seed, position) alone: the finaliser of SplitMix64
// (Steele et al. 2014) over both.
double uniform(uint64_t seed, int64_t position) {
  const auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  const uint64_t bits = mix(mix(seed + kGolden) + (static_cast<uint64_t>(position) + 1) * kGolden);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

struct LogSumExp {
  float max = -std::numeric_limits<float>::infinity();
  double log_sum = 0;
};

LogSumExp log_sum_exp(std::span<const float> logits) {
  LogSumExp out;
  for (float x : logits) out.max = std::max(out.max, x);
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - out.max);
  out.log_sum = out.max + std::log(sum);
  return out;
}

// The index of the largest; the first of equals. NaN anywhere is an error: it would win or lose at
// random.
int32_t argmax(std::span<const float> logits) {
  int32_t best = -1;
  float most = -std::numeric_limits<float>::infinity();
  bool valid = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    valid = valid && !std::isnan(logits[i]);
    if (logits[i] > most) {
      most = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  if (!valid || best < 0) {
    throw Error(ErrorCode::kInternal,
                "the model computed logits that are not numbers; its file may be damaged");
  }
  return best;
}

std::vector<TokenLogprob> best_tokens(std::span<const float> logits, int n, double log_sum) {
  std::vector<TokenLogprob> all(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    all[i] = {static_cast<int32_t>(i), static_cast<float>(logits[i] - log_sum)};
  }
  const auto count = std::min<size_t>(static_cast<size_t>(n), all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(),
                    [](const TokenLogprob& a, const TokenLogprob& b) {
                      return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
                    });
  all.resize(count);
  return all;
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, int32_t vocab_size) : params_(params) {
  check(params);
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      throw Error(ErrorCode::kInvalidArgument, "logit_bias names token " + std::to_string(token) +
                                                   ", outside the vocabulary of " +
                                                   std::to_string(vocab_size));
    }
    require(!std::isnan(bias), "logit_bias", bias, "a number");
  }
  seed_ = params.seed ? *params.seed
                      : (uint64_t{std::random_device{}()} << 32 | std::random_device{}());
}

void Sampler::apply_penalties(std::span<const int32_t> history) {
  const SamplingParams& p = params_;
  const bool none = p.repeat_penalty == 1 && p.presence_penalty == 0 && p.frequency_penalty == 0;
  if (none || p.penalty_last_n == 0) return;
  if (p.penalty_last_n > 0 && history.size() > static_cast<size_t>(p.penalty_last_n)) {
    history = history.last(static_cast<size_t>(p.penalty_last_n));
  }
  std::unordered_map<int32_t, int> counts;
  for (int32_t token : history) ++counts[token];
  for (const auto& [token, count] : counts) {
    if (token < 0 || static_cast<size_t>(token) >= logits_.size()) continue;
    float& x = logits_[static_cast<size_t>(token)];
    x = x > 0 ? x / p.repeat_penalty : x * p.repeat_penalty;
    x -= p.presence_penalty + p.frequency_penalty * static_cast<float>(count);
  }
}

namespace {

template <class Candidates>
float largest_logit(const Candidates& candidates) {
  float most = candidates[0].logit;
  for (const auto& c : candidates) most = std::max(most, c.logit);
  return most;
}

template <class Candidates>
std::vector<double> softmax(const Candidates& candidates, double temperature) {
  const float most = largest_logit(candidates);
  std::vector<double> p(candidates.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    p[i] = std::exp((static_cast<double>(candidates[i].logit) - most) / temperature);
    sum += p[i];
  }
  for (double& x : p) x /= sum;
  return p;
}

constexpr auto kFalling = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
};

template <class Candidates>
void keep_top_k(Candidates& candidates, int32_t k) {
  if (k <= 0 || static_cast<size_t>(k) >= candidates.size()) return;
  const auto end = candidates.begin() + k;
  std::nth_element(candidates.begin(), end, candidates.end(), kFalling);
  candidates.erase(end, candidates.end());
}

// Keeps the fewest best candidates whose probability reaches `mass`. Sorts a growing prefix: the
// nucleus is nearly always a few dozen of a hundred thousand.
template <class Candidates>
void keep_nucleus(Candidates& candidates, double mass) {
  const float most = largest_logit(candidates);
  const auto weight = [most](const auto& c) {
    return std::exp(static_cast<double>(c.logit) - most);
  };
  double total = 0;
  for (const auto& c : candidates) total += weight(c);
  double sum = 0;
  size_t sorted = 0;
  for (size_t step = 256;; step *= 8) {
    const size_t end = std::min(sorted + step, candidates.size());
    std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates.begin() + static_cast<std::ptrdiff_t>(end), candidates.end(),
                      kFalling);
    for (; sorted < end; ++sorted) {
      sum += weight(candidates[sorted]);
      if (sum >= mass * total) return candidates.resize(sorted + 1);
    }
    if (end == candidates.size()) return;
  }
}

// Keeps the candidates whose surprise is nearest to the entropy, up to `mass` of probability.
template <class Candidates>
void keep_typical(Candidates& candidates, double mass) {
  std::sort(candidates.begin(), candidates.end(), kFalling);
  const std::vector<double> p = softmax(candidates, 1.0);
  double entropy = 0;
  for (double x : p) {
    if (x > 0) entropy -= x * std::log(x);
  }
  const auto distance = [&](size_t i) {
    return p[i] > 0 ? std::abs(-std::log(p[i]) - entropy) : std::numeric_limits<double>::infinity();
  };
  std::vector<size_t> order(p.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return distance(a) < distance(b); });
  Candidates kept;
  double sum = 0;
  for (size_t i : order) {
    kept.push_back(candidates[i]);
    sum += p[i];
    if (sum >= mass) break;
  }
  candidates = std::move(kept);
}

template <class Candidates>
void keep_min_p(Candidates& candidates, float min_p) {
  const float floor = largest_logit(candidates) + std::log(min_p);
  std::erase_if(candidates, [floor](const auto& c) { return c.logit < floor; });
}

template <class Candidates>
size_t draw(const Candidates& candidates, double temperature, double u) {
  const std::vector<double> p = softmax(candidates, temperature);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += p[i];
    if (u < sum) return i;
  }
  return p.size() - 1;
}

}  // namespace

SampledToken Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                             int64_t position, int n_top) {
  const SamplingParams& p = params_;
  const int32_t greedy = argmax(logits);  // also finds logits that are not numbers
  SampledToken out;
  const bool plain = p.logit_bias.empty() && p.repeat_penalty == 1 && p.presence_penalty == 0 &&
                     p.frequency_penalty == 0;
  if (plain && p.temperature == 0) {
    out.token = greedy;
  } else {
    logits_.assign(logits.begin(), logits.end());
    for (const auto& [token, bias] : p.logit_bias) logits_[static_cast<size_t>(token)] += bias;
    apply_penalties(history);
    out.token = p.temperature == 0 ? argmax(logits_) : choose(position);
  }
  if (n_top >= 0) {
    const double log_sum = log_sum_exp(logits).log_sum;
    out.logprob = static_cast<float>(logits[static_cast<size_t>(out.token)] - log_sum);
    if (n_top > 0) out.top = best_tokens(logits, n_top, log_sum);
  }
  return out;
}

int32_t Sampler::choose(int64_t position) {
  const SamplingParams& p = params_;
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (std::isfinite(logits_[i])) candidates_.push_back({static_cast<int32_t>(i), logits_[i]});
  }
  if (candidates_.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "logit_bias leaves no token that may be chosen");
  }
  keep_top_k(candidates_, p.top_k);
  if (p.typical_p < 1) keep_typical(candidates_, p.typical_p);
  if (p.top_p < 1) keep_nucleus(candidates_, p.top_p);
  if (p.min_p > 0) keep_min_p(candidates_, p.min_p);
  return candidates_[draw(candidates_, p.temperature, uniform(seed_, position))].token;
}

}  // namespace mlxr
