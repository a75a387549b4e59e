#include "core/runtime/sampler/penalties.h"

#include <algorithm>
#include <cmath>

namespace mlxr {
namespace {

std::span<const int32_t> window(std::span<const int32_t> history, int32_t last_n) {
  const auto size = static_cast<size_t>(std::max(last_n, 0));
  return last_n >= 0 && history.size() > size ? history.last(size) : history;
}

}  // namespace

void apply_penalties(const SamplingParams& p, std::span<const int32_t> history,
                     std::span<float> logits) {
  if (p.repeat_penalty == 1 && p.presence_penalty == 0 && p.frequency_penalty == 0) return;
  std::unordered_map<int32_t, int> counts;
  for (const int32_t token : window(history, p.penalty_last_n)) ++counts[token];
  for (const auto& [token, count] : counts) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    float& x = logits[static_cast<size_t>(token)];
    x = x > 0 ? x / p.repeat_penalty : x * p.repeat_penalty;
    x -= p.presence_penalty + p.frequency_penalty * static_cast<float>(count);
  }
}

std::unordered_map<int32_t, int32_t> repetitions(std::span<const int32_t> history, int32_t least,
                                                 const std::function<bool(int32_t)>& breaks) {
  const size_t size = history.size();
  const auto back = [&](size_t i) { return history[size - 1 - i]; };
  size_t limit = 0;  // a repetition ends before the last token that breaks
  while (limit < size && !breaks(back(limit))) ++limit;
  std::unordered_map<int32_t, int32_t> longest;
  if (limit < static_cast<size_t>(std::max(least, 1))) return longest;
  // matches[i]: how many tokens before i, counted backwards from the end, equal the last ones.
  std::vector<size_t> matches(size, 0);
  size_t left = 0, right = 0;
  for (size_t i = 1; i < size; ++i) {
    size_t& n = matches[i];
    if (i < right) n = std::min(right - i, matches[i - left]);
    while (i + n < size && back(n) == back(i + n)) ++n;
    if (i + n > right) {
      left = i;
      right = i + n;
    }
    const auto length = static_cast<int32_t>(std::min(n, limit));
    if (length < std::max(least, 1)) continue;
    int32_t& known = longest[back(i - 1)];
    known = std::max(known, length);
  }
  return longest;
}

void apply_dry(const SamplingParams& p, std::span<const int32_t> history,
               const std::function<bool(int32_t)>& breaks, std::span<float> logits) {
  if (p.dry_multiplier == 0) return;
  const auto text = window(history, p.dry_penalty_last_n);
  for (const auto& [token, length] : repetitions(text, p.dry_allowed_length, breaks)) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    const double penalty = p.dry_multiplier * std::pow(p.dry_base, length - p.dry_allowed_length);
    // A finite logit stays finite: the token remains when nothing else may come.
    logits[static_cast<size_t>(token)] -= static_cast<float>(std::min(penalty, 1e30));
  }
}

}  // namespace mlxr
