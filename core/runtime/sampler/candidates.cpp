#include "core/runtime/sampler/candidates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "core/kernels/cpu/softmax.h"
#include "core/kernels/cpu/topk.h"

namespace mlxr {
namespace {

// The first guess at the size of a nucleus; nearly always enough of a hundred thousand.
constexpr size_t kFirstNucleus = 256;
constexpr size_t kNucleusGrowth = 8;

std::vector<float> probabilities_of(const Candidates& candidates) {
  std::vector<float> p;
  softmax(candidates, 1.0f, p);
  return p;
}

void sort_best_first(Candidates& candidates) {
  if (std::is_sorted(candidates.begin(), candidates.end(), is_better)) return;
  std::sort(candidates.begin(), candidates.end(), is_better);
}

double entropy_of(std::span<const float> p) {
  double entropy = 0;
  for (const double x : p) {
    if (x > 0) entropy -= x * std::log(x);
  }
  return entropy;
}

float largest_logit(const Candidates& candidates) {
  float most = candidates.front().logit;
  for (const Candidate& c : candidates) most = std::max(most, c.logit);
  return most;
}

}  // namespace

void collect(std::span<const float> logits, float floor, Candidates& out) {
  out.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i]) && logits[i] >= floor) {
      out.push_back({static_cast<int32_t>(i), logits[i]});
    }
  }
}

void collect_best(std::span<const float> logits, int32_t k, Candidates& out) {
  std::vector<cpu::TopLogit> best;
  cpu::top_k(logits, k, best);
  out.clear();
  for (const cpu::TopLogit& top : best) {
    if (std::isfinite(top.logit)) out.push_back({top.id, top.logit});
  }
}

void collect_nucleus(std::span<const float> logits, double mass, Candidates& out) {
  const double log_sum = cpu::log_sum_exp(logits);
  for (size_t k = kFirstNucleus; k < logits.size(); k *= kNucleusGrowth) {
    collect_best(logits, static_cast<int32_t>(k), out);
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      sum += std::exp(out[i].logit - log_sum);
      if (sum >= mass) return out.resize(i + 1);
    }
    if (out.size() < k) return;  // no further finite logits
  }
  collect(logits, -std::numeric_limits<float>::infinity(), out);
  if (!out.empty()) keep_nucleus(out, mass);
}

void softmax(const Candidates& candidates, float temperature, std::vector<float>& out) {
  out.resize(candidates.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = candidates[i].logit;
  cpu::softmax(out, temperature);
}

float n_sigma_floor(std::span<const float> logits, float n) {
  double sum = 0, squares = 0, count = 0;
  float most = -std::numeric_limits<float>::infinity();
  for (const float x : logits) {
    if (!std::isfinite(x)) continue;
    most = std::max(most, x);
    sum += x;
    squares += static_cast<double>(x) * x;
    ++count;
  }
  if (count == 0) return most;
  const double mean = sum / count;
  const double deviation = std::sqrt(std::max(0.0, squares / count - mean * mean));
  return static_cast<float>(most - n * deviation);
}

void keep_above(Candidates& candidates, float floor) {
  const Candidate best = *std::min_element(candidates.begin(), candidates.end(), is_better);
  std::erase_if(candidates, [floor](const Candidate& c) { return c.logit < floor; });
  if (candidates.empty()) candidates.push_back(best);
}

void keep_nucleus(Candidates& candidates, double mass) {
  sort_best_first(candidates);
  const std::vector<float> p = probabilities_of(candidates);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += p[i];
    if (sum >= mass) return candidates.resize(i + 1);
  }
}

void keep_typical(Candidates& candidates, double mass) {
  sort_best_first(candidates);
  const std::vector<float> p = probabilities_of(candidates);
  const double entropy = entropy_of(p);
  std::vector<std::pair<double, size_t>> order;  // distance from the entropy, place
  for (size_t i = 0; i < p.size(); ++i) {
    const double surprise =
        p[i] > 0 ? -std::log(static_cast<double>(p[i])) : std::numeric_limits<double>::infinity();
    order.emplace_back(std::abs(surprise - entropy), i);
  }
  std::sort(order.begin(), order.end());
  Candidates kept;
  double sum = 0;
  for (const auto& [distance, i] : order) {
    kept.push_back(candidates[i]);
    sum += p[i];
    if (sum >= mass) break;
  }
  candidates = std::move(kept);
  sort_best_first(candidates);
}

void keep_min_p(Candidates& candidates, float min_p) {
  keep_above(candidates, largest_logit(candidates) + std::log(min_p));
}

void exclude_top_choices(Candidates& candidates, float threshold) {
  const std::vector<float> p = probabilities_of(candidates);
  size_t top = 0;
  const Candidate* last = nullptr;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] < threshold) continue;
    ++top;
    if (last == nullptr || is_better(*last, candidates[i])) last = &candidates[i];
  }
  if (top < 2) return;
  const Candidate kept = *last;
  std::erase_if(candidates, [&kept](const Candidate& c) { return is_better(c, kept); });
}

float dynamic_temperature(const Candidates& candidates, float temperature, float range,
                          float exponent) {
  constexpr float kLeast = 1e-3f;
  const float lowest = std::max(temperature - range, 0.0f), highest = temperature + range;
  if (candidates.size() < 2) return std::max(lowest, kLeast);
  const double most = std::log(static_cast<double>(candidates.size()));
  const double share = std::clamp(entropy_of(probabilities_of(candidates)) / most, 0.0, 1.0);
  const auto scale = static_cast<float>(std::pow(share, static_cast<double>(exponent)));
  return std::max(lowest + (highest - lowest) * scale, kLeast);
}

void keep_mirostat(Candidates& candidates, float mu) {
  sort_best_first(candidates);
  const std::vector<float> p = probabilities_of(candidates);
  size_t kept = 1;
  while (kept < p.size() && -std::log2(p[kept]) <= mu) ++kept;
  candidates.resize(kept);
}

void keep_mirostat_v1(Candidates& candidates, float mu, int32_t vocab_size) {
  constexpr size_t kEstimatedFrom = 100;  // the paper's m
  sort_best_first(candidates);
  const std::vector<float> p = probabilities_of(candidates);
  // Least squares: the logarithm of neighbours' ratio over that of their ranks'.
  double products = 0, squares = 0;
  for (size_t i = 0; i + 1 < std::min(kEstimatedFrom, p.size()); ++i) {
    if (p[i + 1] <= 0) break;
    const double rank = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    products += rank * std::log(static_cast<double>(p[i]) / p[i + 1]);
    squares += rank * rank;
  }
  if (!(products > 0)) return;  // flat, or one candidate
  const double s = products / squares, epsilon = s - 1;
  const double numerator = epsilon * std::exp2(static_cast<double>(mu));
  const double k = std::abs(epsilon) < 1e-6
                       ? std::exp2(static_cast<double>(mu)) / std::log(vocab_size)
                       : std::pow(numerator / (1 - std::pow(vocab_size, -epsilon)), 1 / s);
  if (!(k < static_cast<double>(candidates.size()))) return;
  candidates.resize(static_cast<size_t>(std::max(1.0, std::round(k))));
}

}  // namespace mlxr
