// A weight matrix as the primitives hold it: where its bytes lie, and who keeps them there. Not an
// mx::array: MLX's CPU allocator copies memory that it is given, and a model would be there twice.
#pragma once

#include <memory>
#include <span>

#include "core/base/thread_pool.h"
#include "core/formats/weight_view.h"
#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr {

struct Weight {
  cpu::MatrixRef ref;
  std::shared_ptr<const void> owner;

  int64_t rows() const { return ref.rows; }
  int64_t cols() const { return ref.cols; }
};

// A matrix ([rows, cols]; leading dimensions are folded) where it lies.
// Throws Error{kCorruptFile} when its bytes do not match its shape.
Weight wrap_weight(const WeightView& view);

// Bytes of the interleaved form of `weights` together, which are multiplied in one pass and have
// the same number of rows: their tiles alternate, so that the pass is one stream. 0 when this
// machine has no kernels for one of them.
int64_t packed_size(std::span<Weight* const> weights);
// Replaces them by their interleaved form in memory[0 ... packed_size), 64 byte aligned, which
// `owner` keeps.
void pack_weights(std::span<Weight* const> weights, uint8_t* memory,
                  const std::shared_ptr<const void>& owner, ThreadPool& threads);

}  // namespace mlxr
