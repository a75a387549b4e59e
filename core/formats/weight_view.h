// A tensor as it lies in a file: never copied, kept alive by its owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "core/formats/quant_format.h"

namespace mlxr {

struct WeightView {
  std::string name;
  QuantFormat format = QuantFormat::kF32;
  std::vector<int64_t> shape;  // outermost first; a matrix is [rows (outputs), columns (inputs)]
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;

  // kMlxAffine only: weight = scale * q + bias for each group of `group` columns; q is packed
  // least significant bit first, `bits` each. scales and biases are [rows, columns / group].
  int32_t bits = 0;
  int32_t group = 0;
  QuantFormat scale_format = QuantFormat::kF32;
  std::span<const std::byte> scales;
  std::span<const std::byte> biases;

  int64_t elements() const {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  }
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }
  // Bytes in memory, scales and biases included.
  int64_t total_bytes() const {
    return static_cast<int64_t>(bytes.size() + scales.size() + biases.size());
  }
};

// Decodes row `row` ([columns] float32) by the format's definition.
void dequantize_row(const WeightView& weight, int64_t row, float* out);

// "Q8_0", "BF16", "MLX4-G64".
std::string format_name(const WeightView& weight);

}  // namespace mlxr
