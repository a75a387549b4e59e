#include "core/kernels/primitives/low_rank.h"

#include <algorithm>

namespace mlxr {
namespace {

// Columns of x that a thread takes at once: a has too few rows to be shared out by them.
constexpr int64_t kChunk = 64;

// Multiplications of first halves that are together done sooner on the caller's thread: a decode
// step has four such loops a layer, and waking and joining the pool for each costs some
// microseconds, in which one core multiplies as many numbers that are not in its own cache.
constexpr int64_t kFewProducts = int64_t{1} << 16;

int64_t products_of(const std::vector<ProductJob>& jobs) {
  int64_t sum = 0;
  for (const ProductJob& job : jobs) sum += job.matrix.rows * job.matrix.cols * job.x.columns;
  return sum;
}

}  // namespace

void LowRankAddends::compute(const float* x, int64_t k, const std::vector<LowRankTerms>& terms,
                             ThreadPool& threads) {
  addends_.clear();
  first_.clear();
  if (terms.empty()) return;
  size_t inputs = 0;
  int64_t values = 0;
  for (const LowRankTerms& of_product : terms) {
    for (const LowRankTerm& term : of_product) {
      inputs += static_cast<size_t>((term.count + kChunk - 1) / kChunk) + 1;
      values += term.count * term.a.rows();
    }
  }
  if (inputs_.size() < inputs) inputs_.resize(inputs);
  float* half = halves_.at_least(static_cast<size_t>(values));
  size_t input = 0;
  const auto view = [&](const float* from, int64_t columns, const Weight& weight) {
    ProductInput& in = inputs_[input++];
    in.set(from, columns, weight.cols());
    return in.view_for(weight.ref, threads);
  };

  std::vector<ProductJob> jobs;
  std::vector<const Weight*> seconds;
  for (const LowRankTerms& of_product : terms) {
    first_.push_back(addends_.size());
    for (const LowRankTerm& term : of_product) {
      const int64_t rank = term.a.rows();
      for (int64_t c = 0; c < term.count; c += kChunk) {
        const int64_t columns = std::min<int64_t>(kChunk, term.count - c);
        jobs.push_back({.matrix = term.a.ref,
                        .bias = nullptr,
                        .x = view(x + (term.first + c) * k, columns, term.a),
                        .out = half + c * rank,
                        .activation = {}});
      }
      addends_.push_back({.matrix = term.b.ref,
                          .x = {.x = half, .columns = term.count},
                          .scale = term.scale,
                          .first = term.first});
      seconds.push_back(&term.b);
      half += term.count * rank;
    }
  }
  first_.push_back(addends_.size());
  if (products_of(jobs) <= kFewProducts) {
    run_products_here(jobs);
  } else {
    run_products(jobs, threads);
  }
  for (size_t i = 0; i < addends_.size(); ++i) {
    addends_[i].x = view(addends_[i].x.x, addends_[i].x.columns, *seconds[i]);
  }
}

std::span<const Addend> LowRankAddends::of(size_t product) const {
  if (first_.empty()) return {};
  return std::span(addends_).subspan(first_[product], first_[product + 1] - first_[product]);
}

}  // namespace mlxr
