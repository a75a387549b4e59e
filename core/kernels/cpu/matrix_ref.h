// What a CPU kernel needs to know of a weight matrix: plain pointers and numbers, no ownership.
#pragma once

#include <cstdint>

#include "core/formats/quant_format.h"

namespace mlxr::cpu {

// The formats whose elements are plain floating-point numbers of two or four bytes.
constexpr bool is_float(QuantFormat format) {
  return format == QuantFormat::kF32 || format == QuantFormat::kF16 || format == QuantFormat::kBF16;
}

struct MatrixRef {
  QuantFormat format = QuantFormat::kF32;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs; a whole number of blocks
  const uint8_t* data = nullptr;
  int64_t row_stride = 0;  // bytes between rows of `data`
  // True when `data` holds the interleaved form (packed_layout.h); rows are then no longer apart.
  bool packed = false;
  int64_t tile_stride = 0;  // packed: bytes between tiles of two groups

  // kMlxAffine: w = scale * q + bias, `group` columns share a scale; arrays are [rows, cols /
  // group].
  int32_t bits = 0;
  int32_t group = 0;
  QuantFormat scale_format = QuantFormat::kF32;
  const uint8_t* scales = nullptr;
  const uint8_t* biases = nullptr;
};

}  // namespace mlxr::cpu
