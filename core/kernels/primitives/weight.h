// A weight matrix on the graph: its bytes as an mx::array without a copy, its format beside it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/formats/weight_view.h"
#include "core/kernels/cpu/matrix_ref.h"
#include "mlx/array.h"

namespace mlxr {

struct Weight {
  QuantFormat format = QuantFormat::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t bits = 0;
  int32_t group = 0;
  QuantFormat scale_format = QuantFormat::kF32;
  bool packed = false;    // data is the interleaved form of core/kernels/cpu/packed_layout.h
  mlx::core::array data;  // uint8 [rows, bytes a row]; packed: [groups, bytes a group]
  std::optional<mlx::core::array> scales, biases;  // uint8, unpacked kMlxAffine only

  // The arrays that a primitive takes as inputs, in the order that as_matrix() reads them.
  void append_inputs(std::vector<mlx::core::array>& inputs) const;
};

// Wraps a matrix ([rows, cols]; leading dimensions are folded) where it lies.
// Throws Error{kCorruptFile} when its bytes do not match its shape.
Weight wrap_weight(const WeightView& view);

// Bytes of the interleaved form of `weight`; 0 when this machine has no kernels for it.
int64_t packed_size(const Weight& weight);
// Writes it to memory[0 ... packed_size), 64 byte aligned, and wraps that. `owner` keeps it alive.
Weight pack_weight(const Weight& weight, uint8_t* memory, std::shared_ptr<void> owner,
                   ThreadPool& threads);

// The shape and format of a Weight without its arrays: what a primitive keeps.
struct WeightLayout {
  cpu::MatrixRef ref;  // pointers unset
  int inputs = 1;      // arrays it takes
};
WeightLayout layout_of(const Weight& weight);
// Completes the layout with the data of inputs[first ...].
cpu::MatrixRef as_matrix(const WeightLayout& layout, const std::vector<mlx::core::array>& inputs,
                         int first);

}  // namespace mlxr
