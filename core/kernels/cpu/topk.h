// The best of a row of logits, without sorting it. One thread's work.
//
// Order: larger first, of equals (0 and -0 are equal) the lower index; infinities are numbers like
// others, and a NaN is never chosen. So a result is the same on every instruction set.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mlxr::cpu {

// The largest number of x; -infinity when there is none.
float largest(std::span<const float> x);

// Its first index; -1 when x holds no number.
int32_t argmax(std::span<const float> x);

bool has_nan(std::span<const float> x);

struct TopLogit {
  int32_t id = 0;  // index in the row
  float logit = 0;
};

// The k best in order, fewer where x holds fewer numbers; `out` is replaced. O(n) for any order of
// x, plus sorting k. One pass finds a floor that at least k are above: x is cut into some 4 k
// groups, and the k-th of their largest is one. A second one collects what is above it, a vector at
// a time; should that be many times k, the best k are kept and raise the floor.
void top_k(std::span<const float> x, int32_t k, std::vector<TopLogit>& out);

}  // namespace mlxr::cpu
