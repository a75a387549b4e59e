#include "daemon/scheduler/step_cost.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace mlxr {
namespace {

constexpr double kMemory = 0.95;  // weight of the last step's sums in the next: twenty steps count
// Added to the diagonal, relative to it: what the steps do not tell apart is shared between the
// terms.
constexpr double kRidge = 1e-6;

}  // namespace

void StepCost::measured(const StepLoad& load, bool has_prompt, double seconds) {
  if (seconds <= 0) return;
  // Divided by the seconds: errors count relative to them, and a step that the machine's other work
  // made slow weighs little.
  const Vector row = {1 / seconds, load.tokens / seconds, load.attended / seconds};
  Sums& sums = sums_[has_prompt ? 1 : 0];
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) {
      sums.products[i][j] = sums.products[i][j] * kMemory + row[i] * row[j];
    }
    sums.values[i] = sums.values[i] * kMemory + row[i];
  }
  fit();
}

// Solves for the terms that are still `used`, and leaves out the most negative one until none is.
void StepCost::fit() {
  std::array<bool, kTerms> used = {true, true, true};
  while (true) {
    std::array<Vector, kTerms> m{};
    Vector v{};
    for (size_t i = 0; i < kTerms; ++i) {
      for (size_t j = 0; j < kTerms; ++j) {
        m[i][j] = used[i] && used[j] ? sums_[0].products[i][j] + sums_[1].products[i][j] : 0;
      }
      v[i] = used[i] ? sums_[0].values[i] + sums_[1].values[i] : 0;
      m[i][i] = m[i][i] > 0 ? m[i][i] * (1 + kRidge) : 1;
    }
    for (size_t i = 0; i < kTerms; ++i) {  // elimination; the matrix is positive definite
      for (size_t k = i + 1; k < kTerms; ++k) {
        const double factor = m[k][i] / m[i][i];
        for (size_t j = i; j < kTerms; ++j) m[k][j] -= factor * m[i][j];
        v[k] -= factor * v[i];
      }
    }
    for (size_t i = kTerms; i-- > 0;) {
      for (size_t j = i + 1; j < kTerms; ++j) v[i] -= m[i][j] * v[j];
      v[i] /= m[i][i];
    }
    // Compared as shares of a typical step, not as bare coefficients.
    size_t worst = kTerms;
    double least = 0;
    for (size_t i = 0; i < kTerms; ++i) {
      const double share = v[i] * (sums_[0].values[i] + sums_[1].values[i]);
      if (used[i] && share < least) {
        least = share;
        worst = i;
      }
    }
    if (worst == kTerms) {
      terms_ = v;
      return;
    }
    used[worst] = false;
  }
}

double StepCost::seconds(const StepLoad& load) const {
  return terms_[0] + terms_[1] * load.tokens + terms_[2] * load.attended;
}

// b n + c (n position + n (n + 1) / 2) = seconds, solved for n.
int64_t StepCost::tokens_within(double seconds, int64_t position) const {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (seconds <= 0) return 0;
  const double c = terms_[2];
  const double linear = terms_[1] + c * (static_cast<double>(position) + 0.5);
  const double slope = linear + std::sqrt(linear * linear + 2 * c * seconds);
  return slope * static_cast<double>(kMost) <= 2 * seconds
             ? kMost
             : static_cast<int64_t>(2 * seconds / slope);
}

}  // namespace mlxr
