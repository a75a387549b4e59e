// Random matrices in any format of the table, with sane scales, for kernel tests.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "core/base/float16.h"
#include "core/formats/block_layouts.h"
#include "core/formats/weight_view.h"
#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr::testing {

struct RandomWeight {
  QuantFormat format = QuantFormat::kF32;
  int64_t rows = 0, cols = 0;
  int32_t bits = 0, group = 0;
  QuantFormat scale_format = QuantFormat::kF32;
  std::vector<std::byte> bytes, scales, biases;

  WeightView view() const {
    WeightView v;
    v.name = "random";
    v.format = format;
    v.shape = {rows, cols};
    v.bytes = bytes;
    v.bits = bits;
    v.group = group;
    v.scale_format = scale_format;
    v.scales = scales;
    v.biases = biases;
    return v;
  }
  cpu::MatrixRef ref() const {
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    return {.format = format,
            .rows = rows,
            .cols = cols,
            .data = data,
            .row_stride = static_cast<int64_t>(bytes.size()) / rows,
            .bits = bits,
            .group = group,
            .scale_format = scale_format,
            .scales = reinterpret_cast<const uint8_t*>(scales.data()),
            .biases = reinterpret_cast<const uint8_t*>(biases.data())};
  }
};

// Byte offsets of the float16 fields of a block.
inline std::vector<int> half_fields(QuantFormat format) {
  switch (format) {
    case QuantFormat::kQ4_0:
    case QuantFormat::kQ5_0:
    case QuantFormat::kQ8_0:
    case QuantFormat::kIQ2_XXS:
    case QuantFormat::kIQ2_XS:
    case QuantFormat::kIQ2_S:
    case QuantFormat::kIQ3_XXS:
    case QuantFormat::kIQ3_S:
    case QuantFormat::kIQ1_S:
    case QuantFormat::kIQ4_NL:
    case QuantFormat::kIQ4_XS:
      return {0};
    case QuantFormat::kQ4_1:
    case QuantFormat::kQ5_1:
    case QuantFormat::kQ4_K:
    case QuantFormat::kQ5_K:
      return {0, 2};
    case QuantFormat::kQ2_K:
      return {static_cast<int>(offsetof(BlockQ2_K, d)),
              static_cast<int>(offsetof(BlockQ2_K, dmin))};
    case QuantFormat::kQ3_K:
      return {static_cast<int>(offsetof(BlockQ3_K, d))};
    case QuantFormat::kQ6_K:
      return {static_cast<int>(offsetof(BlockQ6_K, d))};
    case QuantFormat::kTQ1_0:
      return {static_cast<int>(offsetof(BlockTQ1_0, d))};
    case QuantFormat::kTQ2_0:
      return {static_cast<int>(offsetof(BlockTQ2_0, d))};
    default:
      return {};
  }
}

template <class Random>
float small_scale(Random& random) {
  return std::uniform_real_distribution<float>(-0.02f, 0.02f)(random);
}

inline void put_scalar(std::vector<std::byte>& out, size_t index, QuantFormat format, float value) {
  if (format == QuantFormat::kF32) {
    std::memcpy(out.data() + index * 4, &value, 4);
  } else {
    const uint16_t half = format == QuantFormat::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(out.data() + index * 2, &half, 2);
  }
}

// Scales of a random block that are not plain float16 fields: small, finite ones.
template <class Random>
void put_other_scales(QuantFormat format, std::byte* block, Random& random) {
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  switch (format) {
    case QuantFormat::kQ8_K: {
      const float d = small_scale(random);
      std::memcpy(block, &d, 4);
      return;
    }
    case QuantFormat::kIQ1_M: {  // a float16 in the upper nibbles of four words
      const unsigned half = f32_to_f16(small_scale(random));
      for (unsigned i = 0; i < 4; ++i) {
        std::byte& high = block[offsetof(BlockIQ1_M, scales) + 2 * i + 1];
        high = (high & std::byte{15}) | static_cast<std::byte>(((half >> (4 * i)) & 15) << 4);
      }
      return;
    }
    case QuantFormat::kMXFP4:
      block[0] = static_cast<std::byte>(118 + below(8));  // 2^-9 to 2^-2
      return;
    case QuantFormat::kNVFP4:
      for (int i = 0; i < 4; ++i) block[i] = static_cast<std::byte>(below(0x38));  // less than 1
      return;
    default:
      return;
  }
}

inline bool is_float16_or_32(QuantFormat format) {
  return format == QuantFormat::kF32 || format == QuantFormat::kF16 || format == QuantFormat::kBF16;
}

inline RandomWeight random_weight(QuantFormat format, int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  RandomWeight w{.format = format, .rows = rows, .cols = cols};
  w.bytes.resize(static_cast<size_t>(rows * row_bytes(format, cols)));
  if (is_float16_or_32(format)) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      put_scalar(w.bytes, static_cast<size_t>(i), format, small_scale(random));
    }
    return w;
  }
  for (std::byte& b : w.bytes) b = static_cast<std::byte>(random());
  if (format == QuantFormat::kF8_E4M3 || format == QuantFormat::kF8_E5M2) {
    for (std::byte& b : w.bytes) b &= std::byte{0xbf};  // without the high exponent bit: below 2
    return w;
  }
  const auto block = static_cast<size_t>(info(format).block_bytes);
  for (size_t at = 0; at < w.bytes.size(); at += block) {
    for (int field : half_fields(format)) {
      const uint16_t half = f32_to_f16(small_scale(random));
      std::memcpy(w.bytes.data() + at + static_cast<size_t>(field), &half, 2);
    }
    put_other_scales(format, w.bytes.data() + at, random);
  }
  return w;
}

inline RandomWeight random_affine(int32_t bits, int32_t group, QuantFormat scale_format,
                                  int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  RandomWeight w{.format = QuantFormat::kMlxAffine,
                 .rows = rows,
                 .cols = cols,
                 .bits = bits,
                 .group = group,
                 .scale_format = scale_format};
  w.bytes.resize(static_cast<size_t>(rows * cols * bits / 8));
  for (std::byte& b : w.bytes) b = static_cast<std::byte>(random());
  const auto scales = static_cast<size_t>(rows * cols / group);
  w.scales.resize(scales * (scale_format == QuantFormat::kF32 ? 4 : 2));
  w.biases.resize(w.scales.size());
  for (size_t i = 0; i < scales; ++i) {
    put_scalar(w.scales, i, scale_format, small_scale(random));
    put_scalar(w.biases, i, scale_format, small_scale(random));
  }
  return w;
}

}  // namespace mlxr::testing
