#include "core/runtime/spec/depth_controller.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mlxr {
namespace {

// Weights of the newest measurement; the first ones count in full.
constexpr double kCostWeight = 0.1;
// A mean that was not renewed for so many steps gives way to a measurement twice as fast, up to a
// weight: the machine may have become quicker since, or slower.
constexpr double kStaleAfter = 32;
constexpr double kStaleWeight = 0.4;
// A step that takes so many times the mean was interrupted, and counts as so long.
constexpr double kInterrupted = 3;
constexpr int32_t kTrusted = 3;  // measurements behind a mean that says so
constexpr double kRateWeight = 0.04;
// The judgements that the first guess of a rate counts as: a few unlucky proposals prove nothing.
constexpr int32_t kPrior = 3;
// Judgements of other texts that a sequence begins with count as this many of its own.
constexpr int32_t kInherited = 8;
// Steps at no depth that are timed before anything is proposed.
constexpr int32_t kTimedFirst = 3;
// A change of depth must promise this much: estimates are noisy.
constexpr double kMargin = 1.02;
// How much deeper a refresh goes than what is thought best.
constexpr int32_t kDeeper = 2;

void average(double& mean, double value, double weight) { mean += weight * (value - mean); }

}  // namespace

void StepCosts::record(int32_t tokens, double seconds) {
  const auto i = static_cast<size_t>(tokens);
  if (by_tokens_.size() <= i) by_tokens_.resize(i + 1);
  Mean& mean = by_tokens_[i];
  ++records_;
  const auto age = static_cast<double>(records_ - std::exchange(mean.latest, records_));
  if (mean.count >= kTrusted) seconds = std::min(seconds, kInterrupted * mean.seconds);
  ++mean.count;
  const double weight = std::min(kStaleWeight, kCostWeight * (1 + age / kStaleAfter));
  average(mean.seconds, seconds, std::max(weight, 1.0 / mean.count));
}

bool StepCosts::measured(int32_t tokens) const {
  const auto i = static_cast<size_t>(tokens);
  return i < by_tokens_.size() && by_tokens_[i].count > 0;
}

double StepCosts::seconds(int32_t tokens) const {
  if (measured(tokens)) return by_tokens_[static_cast<size_t>(tokens)].seconds;
  int32_t below = tokens - 1;
  while (below >= 0 && !measured(below)) --below;
  int32_t above = tokens + 1;
  const auto known = static_cast<int32_t>(by_tokens_.size());
  while (above < known && !measured(above)) ++above;
  const auto at = [this](int32_t i) { return by_tokens_[static_cast<size_t>(i)].seconds; };
  if (below < 0) return above < known ? at(above) : 0;
  if (above < known) {
    const double share = static_cast<double>(tokens - below) / (above - below);
    return at(below) + share * (at(above) - at(below));
  }
  int32_t before = below - 1;
  while (before >= 0 && !measured(before)) --before;
  if (before < 0) return at(below);
  const double slope = std::max(0.0, (at(below) - at(before)) / (below - before));
  return at(below) + slope * (tokens - below);
}

DepthController::DepthController(DepthState& latest, const DepthOptions& options)
    : latest_(latest), options_(options), state_(latest) {
  // Another text: what it is like shows in its first proposals.
  state_.first.count = std::min(state_.first.count, kInherited);
  state_.later.count = std::min(state_.later.count, kInherited);
  if (state_.pause == 0) state_.pause = options.first_pause;
}

bool DepthController::is_probe() const {
  if (state_.depth > 0) return false;
  return state_.first.count == 0 ? state_.since >= kTimedFirst : state_.since >= state_.pause;
}

int32_t DepthController::depth() const {
  if (state_.depth == 0) return is_probe() ? std::min(options_.first_depth, options_.deepest) : 0;
  if (state_.since < options_.refresh) return state_.depth;
  return state_.refresh_deeper ? std::min(state_.depth + kDeeper, options_.deepest) : 0;
}

double DepthController::expected_tokens(int32_t depth) const {
  double expected = 1, all_right = state_.first.mean;
  const double later = state_.later.count > 0 ? state_.later.mean : state_.first.mean;
  for (int32_t i = 0; i < depth; ++i) {
    expected += all_right;
    all_right *= later;
  }
  return expected;
}

double DepthController::gain(int32_t depth, const SharedStep& step) const {
  const double seconds = step.seconds(depth);
  return seconds > 0 ? (step.others + expected_tokens(depth)) / seconds : 0;
}

void ProposalRate::judge(bool right) {
  ++count;
  average(mean, right ? 1 : 0, std::max(kRateWeight, 1.0 / (count + kPrior)));
}

// The token after the last accepted one was wrong; those behind it are unknown.
void DepthController::learn(int32_t proposed, int32_t accepted) {
  for (int32_t i = 0; i < std::min(proposed, accepted + 1); ++i) {
    (i == 0 ? state_.first : state_.later).judge(i < accepted);
  }
}

void DepthController::choose_depth(const SharedStep& step) {
  const int32_t start = state_.depth;
  double best = gain(start, step) * kMargin;
  const auto consider = [&](int32_t depth) {
    if (depth < 0 || depth > options_.deepest || gain(depth, step) <= best) return;
    best = gain(depth, step);
    state_.depth = depth;
  };
  consider(start - 1);
  consider(start + 1);
  // A little may cost more than it brings where much pays, and the other way round.
  if (start > 0) consider(0);
  if (start == 0) consider(std::min(options_.first_depth, options_.deepest));
}

void DepthController::record(int32_t proposed, int32_t accepted, const SharedStep& step) {
  const bool probed = is_probe() && proposed > 0;
  const bool refreshed = state_.depth > 0 && state_.since >= options_.refresh;
  const int32_t before = state_.depth;
  ++state_.since;
  if (refreshed) {
    state_.since = 0;
    state_.refresh_deeper = !state_.refresh_deeper;
  }
  if (proposed > 0) {
    learn(proposed, accepted);
    choose_depth(step);
    if (probed) {
      state_.since = 0;
      state_.pause = std::min(2 * state_.pause, options_.longest_pause);
    }
    if (state_.depth > 0) state_.pause = options_.first_pause;
    if (before > 0 && state_.depth == 0) state_.since = 0;
  }
  latest_ = state_;
}

}  // namespace mlxr
