// Low-rank terms (ops.h) on their way into products: a(x) is computed first, for all terms
// together, and b of that is added to the tiles of the product while they are in the cache.
#pragma once

#include <span>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/kernels/primitives/products.h"

namespace mlxr {

// Kept from step to step, so that its memory is.
class LowRankAddends {
 public:
  // The first halves of `terms`, a list for each product of x, [tokens, k]. Does nothing where
  // there are none.
  void compute(const float* x, int64_t k, const std::vector<LowRankTerms>& terms,
               ThreadPool& threads);
  // Of product number `product`. Valid until the next compute().
  std::span<const Addend> of(size_t product) const;

 private:
  AlignedBuffer<float> halves_;       // a(x) of every term
  std::vector<ProductInput> inputs_;  // of every term's a and b
  std::vector<Addend> addends_;
  std::vector<size_t> first_;  // addend of each product, and one past the last
};

}  // namespace mlxr
