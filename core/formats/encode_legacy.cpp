#include <algorithm>
#include <cmath>

#include "core/base/float16.h"
#include "core/base/float8.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"
#include "core/formats/scale_search.h"

namespace mlxr {
namespace {

// The lower 16 codes in the low nibbles, the upper ones in the high nibbles.
void pack_nibbles(const uint8_t codes[32], uint8_t qs[16]) {
  for (int i = 0; i < 16; ++i) {
    qs[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
  }
}

void pack_fifth_bits(const uint8_t codes[32], uint8_t qh[4]) {
  std::fill_n(qh, 4, uint8_t{0});
  for (int i = 0; i < 32; ++i) qh[i / 8] |= static_cast<uint8_t>((codes[i] >> 4) << (i % 8));
}

float inverse_of(float scale) { return scale != 0 ? 1.0f / scale : 0.0f; }

// Chooses d and the codes, which are `levels` from their lowest up.
uint16_t encode_scaled(std::span<const float, 32> x, const IntegerLevels& levels,
                       uint8_t codes[32]) {
  const uint16_t d = f32_to_f16(fit_scale(x, levels));
  const float inverse = inverse_of(f16_to_f32(d));
  for (size_t i = 0; i < 32; ++i) {
    codes[i] = static_cast<uint8_t>(levels.nearest(x[i] * inverse) - levels.lowest);
  }
  return d;
}

void encode_with_min(std::span<const float, 32> x, int highest, uint16_t& d, uint16_t& m,
                     uint8_t codes[32]) {
  const ScaleAndMin fit = fit_scale_and_min(x, highest, false);
  d = f32_to_f16(fit.scale);
  m = f32_to_f16(fit.min);
  const IntegerLevels levels{0, highest};
  const float inverse = inverse_of(f16_to_f32(d)), min = f16_to_f32(m);
  for (size_t i = 0; i < 32; ++i) {
    codes[i] = static_cast<uint8_t>(levels.nearest((x[i] - min) * inverse));
  }
}

// Codes of the nearest E2M1 values to x / (2 half), and their squared error.
float encode_e2m1(std::span<const float> x, float half, uint8_t* codes) {
  const float inverse = inverse_of(half);
  float error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float magnitude = std::fabs(x[i]) * inverse;
    int code = 0;
    for (int c = 0; c < 7; ++c) {
      code += magnitude > 0.5f * static_cast<float>(kValuesE2M1[c] + kValuesE2M1[c + 1]) ? 1 : 0;
    }
    const float left = std::fabs(x[i]) - half * static_cast<float>(kValuesE2M1[code]);
    error += left * left;
    codes[i] = static_cast<uint8_t>(code | (x[i] < 0 && code != 0 ? 8 : 0));
  }
  return error;
}

}  // namespace

void encode_q4_0(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    BlockQ4_0 block;
    uint8_t codes[32];
    block.d = encode_scaled(x, {-8, 7}, codes);
    pack_nibbles(codes, block.qs);
    return block;
  });
}

void encode_q4_1(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    BlockQ4_1 block;
    uint8_t codes[32];
    encode_with_min(x, 15, block.d, block.m, codes);
    pack_nibbles(codes, block.qs);
    return block;
  });
}

void encode_q5_0(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    BlockQ5_0 block;
    uint8_t codes[32];
    block.d = encode_scaled(x, {-16, 15}, codes);
    pack_nibbles(codes, block.qs);
    pack_fifth_bits(codes, block.qh);
    return block;
  });
}

void encode_q5_1(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    BlockQ5_1 block;
    uint8_t codes[32];
    encode_with_min(x, 31, block.d, block.m, codes);
    pack_nibbles(codes, block.qs);
    pack_fifth_bits(codes, block.qh);
    return block;
  });
}

// Without a search: at eight bits the largest element decides.
void encode_q8_0(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    float largest = 0;
    for (float v : x) largest = std::max(largest, std::fabs(v));
    const float d = largest / 127.0f;
    const float inverse = d > 0 ? 1.0f / d : 0.0f;
    BlockQ8_0 block;
    block.d = f32_to_f16(d);
    for (size_t i = 0; i < 32; ++i) {
      block.qs[i] = static_cast<int8_t>(std::lround(x[i] * inverse));
    }
    return block;
  });
}

void encode_iq4_nl(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    BlockIQ4_NL block;
    block.d = f32_to_f16(fit_scale(x, Iq4Levels()));
    const float inverse = inverse_of(f16_to_f32(block.d));
    uint8_t codes[32];
    for (size_t i = 0; i < 32; ++i) {
      codes[i] = Iq4Levels::code_of(Iq4Levels::nearest(x[i] * inverse));
    }
    pack_nibbles(codes, block.qs);
    return block;
  });
}

// Of the powers of two around the one that puts the largest element among E2M1's largest values (4
// to 6), the one with the least error.
void encode_mxfp4(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<32>(values, bytes, n, [](std::span<const float, 32> x) {
    float largest = 0;
    for (float v : x) largest = std::max(largest, std::fabs(v));
    int exponent = 0;
    std::frexp(largest, &exponent);  // largest is in [2^(exponent - 1), 2^exponent)
    BlockMXFP4 best{};
    float best_error = std::numeric_limits<float>::infinity();
    for (int e = exponent - 4; e <= exponent - 2; ++e) {
      BlockMXFP4 block;
      block.e = static_cast<uint8_t>(std::clamp(e + 127, 0, 254));
      uint8_t codes[32];
      const float error = encode_e2m1(x, half_of_f8_e8m0(block.e), codes);
      pack_nibbles(codes, block.qs);
      if (error < best_error) {
        best_error = error;
        best = block;
      }
    }
    return best;
  });
}

}  // namespace mlxr
