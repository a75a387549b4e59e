#include "core/runtime/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/kernels/cpu/softmax.h"
#include "core/kernels/cpu/topk.h"
#include "core/runtime/sampler/penalties.h"
#include "core/runtime/sampler/random.h"

namespace mlxr {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void require(bool good, const char* name, float value, const char* range) {
  if (good) return;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(name) + " is " + std::to_string(value) + "; it must be " + range);
}

void check_truncations(const SamplingParams& p) {
  require(p.top_k >= 0, "top_k", static_cast<float>(p.top_k), "0 (off) or more");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "between 0 and 1");
  require(p.typical_p > 0 && p.typical_p <= 1, "typical_p", p.typical_p, "above 0 and at most 1");
  require(p.top_n_sigma >= 0, "top_n_sigma", p.top_n_sigma, "0 (off) or more");
  require(p.xtc_probability >= 0 && p.xtc_probability <= 1, "xtc_probability", p.xtc_probability,
          "between 0 and 1");
  require(p.xtc_threshold >= 0 && p.xtc_threshold <= 1, "xtc_threshold", p.xtc_threshold,
          "between 0 and 1");
  require(p.mirostat >= 0 && p.mirostat <= 2, "mirostat", static_cast<float>(p.mirostat),
          "0 (off), 1 or 2");
  require(p.mirostat_tau >= 0 && p.mirostat_tau <= 100, "mirostat_tau", p.mirostat_tau,
          "between 0 and 100");
  require(p.mirostat_eta >= 0 && p.mirostat_eta <= 1, "mirostat_eta", p.mirostat_eta,
          "between 0 and 1");
}

void check_penalties(const SamplingParams& p) {
  require(p.repeat_penalty > 0 && p.repeat_penalty <= 100, "repeat_penalty", p.repeat_penalty,
          "above 0 and at most 100");
  require(std::isfinite(p.presence_penalty), "presence_penalty", p.presence_penalty, "finite");
  require(std::isfinite(p.frequency_penalty), "frequency_penalty", p.frequency_penalty, "finite");
  require(p.penalty_last_n >= -1, "penalty_last_n", static_cast<float>(p.penalty_last_n),
          "-1 (the whole sequence) or more");
  require(p.dry_multiplier >= 0 && p.dry_multiplier <= 100, "dry_multiplier", p.dry_multiplier,
          "between 0 and 100");
  require(p.dry_base >= 1 && p.dry_base <= 100, "dry_base", p.dry_base, "between 1 and 100");
  require(p.dry_allowed_length >= 0, "dry_allowed_length", static_cast<float>(p.dry_allowed_length),
          "0 or more");
  require(p.dry_penalty_last_n >= -1, "dry_penalty_last_n",
          static_cast<float>(p.dry_penalty_last_n), "-1 (the whole sequence) or more");
}

void check(const SamplingParams& p, int32_t vocab_size) {
  require(p.temperature >= 0 && p.temperature <= 100, "temperature", p.temperature,
          "between 0 and 100");
  require(p.dynatemp_range >= 0 && p.dynatemp_range <= 100, "dynatemp_range", p.dynatemp_range,
          "between 0 and 100");
  require(p.dynatemp_exponent > 0 && p.dynatemp_exponent <= 100, "dynatemp_exponent",
          p.dynatemp_exponent, "above 0 and at most 100");
  check_truncations(p);
  check_penalties(p);
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      throw Error(ErrorCode::kInvalidArgument, "logit_bias names token " + std::to_string(token) +
                                                   ", outside the vocabulary of " +
                                                   std::to_string(vocab_size));
    }
    require(!std::isnan(bias), "logit_bias", bias, "a number");
  }
}

bool changes_logits(const SamplingParams& p) {
  return !p.logit_bias.empty() || p.repeat_penalty != 1 || p.presence_penalty != 0 ||
         p.frequency_penalty != 0 || p.dry_multiplier != 0;
}

// Most words of a mask are all ones inside a string and all zeros elsewhere.
void apply_mask(std::span<const uint32_t> mask, std::span<float> logits) {
  for (size_t begin = 0; begin < logits.size(); begin += 32) {
    const uint32_t word = begin / 32 < mask.size() ? mask[begin / 32] : 0;
    if (word == ~uint32_t{0}) continue;
    const size_t count = std::min<size_t>(32, logits.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      if ((word >> i & 1) == 0) logits[begin + i] = kNever;
    }
  }
}

void refuse_nan(std::span<const float> logits) {
  if (!cpu::has_nan(logits)) return;
  throw Error(ErrorCode::kInternal,
              "the model computed logits that are not numbers; its file may be damaged");
}

}  // namespace

float Distribution::of(int32_t token) const {
  const auto found = std::find_if(candidates.begin(), candidates.end(),
                                  [token](const Candidate& c) { return c.token == token; });
  if (found == candidates.end()) return 0;
  return probabilities[static_cast<size_t>(found - candidates.begin())];
}

int32_t Distribution::draw(double u) const {
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    sum += probabilities[i];
    if (u < sum) return candidates[i].token;
  }
  return candidates.back().token;
}

Sampler::Sampler(const SamplingParams& params, int32_t vocab_size,
                 std::function<std::string(int32_t)> token_bytes)
    : params_(params), token_bytes_(std::move(token_bytes)), mirostat_mu_(2 * params.mirostat_tau) {
  check(params, vocab_size);
  seed_ = params.seed ? *params.seed
                      : (uint64_t{std::random_device{}()} << 32 | std::random_device{}());
}

bool Sampler::breaks_repetitions(int32_t token) {
  if (!token_bytes_) return false;
  const auto [known, is_new] = breakers_.try_emplace(token, false);
  if (is_new) {
    const std::string text = token_bytes_(token);
    known->second = std::any_of(
        params_.dry_sequence_breakers.begin(), params_.dry_sequence_breakers.end(),
        [&text](const std::string& breaker) { return text.find(breaker) != std::string::npos; });
  }
  return known->second;
}

// The logits to choose from: the model's own where nothing changes them.
std::span<const float> Sampler::adjust(std::span<const float> logits,
                                       std::span<const int32_t> history,
                                       std::span<const uint32_t> mask) {
  if (!changes_logits(params_) && mask.empty()) return logits;
  logits_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params_.logit_bias) {
    logits_[static_cast<size_t>(token)] += bias;
  }
  apply_penalties(params_, history, logits_);
  apply_dry(
      params_, history, [this](int32_t token) { return breaks_repetitions(token); }, logits_);
  if (!mask.empty()) apply_mask(mask, logits_);
  return logits_;
}

// Collects as few candidates as the first truncation leaves: a vocabulary is never sorted.
void Sampler::truncate(std::span<const float> logits, int64_t position) {
  const SamplingParams& p = params_;
  Candidates& candidates = distribution_.candidates;
  float floor = p.top_n_sigma > 0 ? n_sigma_floor(logits, p.top_n_sigma) : kNever;
  const bool only_nucleus = p.top_n_sigma == 0 && p.typical_p == 1 && p.top_p < 1;
  if (p.top_k > 0) {
    collect_best(logits, p.top_k, candidates);
    if (p.top_n_sigma > 0 && !candidates.empty()) keep_above(candidates, floor);
  } else if (only_nucleus) {
    collect_nucleus(logits, p.top_p, candidates);
  } else {
    const bool only_min_p = p.typical_p == 1 && p.top_p == 1 && p.min_p > 0;
    if (only_min_p) floor = std::max(floor, cpu::largest(logits) + std::log(p.min_p));
    collect(logits, floor, candidates);
  }
  if (candidates.empty()) return;
  if (p.typical_p < 1) keep_typical(candidates, p.typical_p);
  if (p.top_p < 1 && (p.top_k > 0 || !only_nucleus)) keep_nucleus(candidates, p.top_p);
  if (p.min_p > 0) keep_min_p(candidates, p.min_p);
  const bool exclude = p.xtc_probability > 0 &&
                       uniform(seed_, position, RandomStream::kExcludeTop) < p.xtc_probability;
  if (exclude) exclude_top_choices(candidates, p.xtc_threshold);
}

void Sampler::truncate_mirostat(std::span<const float> logits) {
  Candidates& candidates = distribution_.candidates;
  collect(logits, kNever, candidates);
  if (candidates.empty()) return;
  for (Candidate& c : candidates) c.logit /= params_.temperature;
  if (params_.mirostat == 1) {
    keep_mirostat_v1(candidates, mirostat_mu_, static_cast<int32_t>(logits.size()));
  } else {
    keep_mirostat(candidates, mirostat_mu_);
  }
}

const Distribution& Sampler::distribution(std::span<const float> logits,
                                          std::span<const int32_t> history, int64_t position,
                                          std::span<const uint32_t> mask) {
  const SamplingParams& p = params_;
  refuse_nan(logits);
  const auto adjusted = adjust(logits, history, mask);
  Candidates& candidates = distribution_.candidates;
  candidates.clear();
  float temperature = p.temperature;
  if (p.temperature == 0) {
    const int32_t best = cpu::argmax(adjusted);
    if (best >= 0 && adjusted[static_cast<size_t>(best)] > kNever) {
      candidates.push_back({best, adjusted[static_cast<size_t>(best)]});
    }
    temperature = 1;
  } else if (p.mirostat > 0) {
    truncate_mirostat(adjusted);
    temperature = 1;
  } else {
    truncate(adjusted, position);
    if (p.dynatemp_range > 0 && !candidates.empty()) {
      temperature =
          dynamic_temperature(candidates, p.temperature, p.dynatemp_range, p.dynatemp_exponent);
    }
  }
  if (candidates.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "logit_bias or the constraint leaves no token that may be chosen");
  }
  softmax(candidates, temperature, distribution_.probabilities);
  return distribution_;
}

void Sampler::chose(int32_t token) {
  if (params_.mirostat == 0 || params_.temperature == 0) return;
  const float surprise = -std::log2(std::max(distribution_.of(token), 1e-30f));
  mirostat_mu_ -= params_.mirostat_eta * (surprise - params_.mirostat_tau);
}

void Sampler::go_on_with_next_seed() { seed_ = next_seed(seed_); }

SampledToken Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                             int64_t position, int n_top, std::span<const uint32_t> mask) {
  const int32_t token =
      distribution(logits, history, position, mask).draw(uniform(seed_, position));
  chose(token);
  return with_logprobs(token, logits, n_top);
}

SampledToken with_logprobs(int32_t token, std::span<const float> logits, int n_top) {
  SampledToken out;
  out.token = token;
  if (n_top < 0) return out;
  const double log_sum = cpu::log_sum_exp(logits);
  const auto logprob = [log_sum](float logit) { return static_cast<float>(logit - log_sum); };
  out.logprob = logprob(logits[static_cast<size_t>(token)]);
  if (n_top == 0) return out;
  std::vector<cpu::TopLogit> best;
  cpu::top_k(logits, n_top, best);
  for (const cpu::TopLogit& top : best) out.top.push_back({top.id, logprob(top.logit)});
  return out;
}

}  // namespace mlxr
