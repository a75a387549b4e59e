#include "core/formats/quant_format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>

#include "core/base/float16.h"
#include "core/formats/block_layouts.h"

namespace mlxr {
namespace {

// Calls decode(block, out) for each block of `n` elements. Blocks may lie unaligned in a file.
template <class Block, class Decode>
void each_block(const std::byte* bytes, float* out, int64_t n, Decode decode) {
  for (int64_t i = 0; i < n; i += Block::kElements, bytes += sizeof(Block)) {
    Block block;
    std::memcpy(&block, bytes, sizeof(Block));
    decode(block, out + i);
  }
}

void decode_f32(const std::byte* bytes, float* out, int64_t n) {
  std::memcpy(out, bytes, static_cast<size_t>(n) * 4);
}

template <float (*convert)(uint16_t)>
void decode_half(const std::byte* bytes, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, bytes + i * 2, 2);
    out[i] = convert(half);
  }
}

void decode_q4_0(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ4_0>(bytes, out, n, [](const BlockQ4_0& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>((b.qs[i] & 15) - 8);
      w[i + 16] = d * static_cast<float>((b.qs[i] >> 4) - 8);
    }
  });
}

void decode_q4_1(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ4_1>(bytes, out, n, [](const BlockQ4_1& b, float* w) {
    const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>(b.qs[i] & 15) + m;
      w[i + 16] = d * static_cast<float>(b.qs[i] >> 4) + m;
    }
  });
}

int fifth_bit(const uint8_t qh[4], int i) { return ((qh[i / 8] >> (i % 8)) & 1) << 4; }

void decode_q5_0(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ5_0>(bytes, out, n, [](const BlockQ5_0& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>(((b.qs[i] & 15) | fifth_bit(b.qh, i)) - 16);
      w[i + 16] = d * static_cast<float>(((b.qs[i] >> 4) | fifth_bit(b.qh, i + 16)) - 16);
    }
  });
}

void decode_q5_1(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ5_1>(bytes, out, n, [](const BlockQ5_1& b, float* w) {
    const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>((b.qs[i] & 15) | fifth_bit(b.qh, i)) + m;
      w[i + 16] = d * static_cast<float>((b.qs[i] >> 4) | fifth_bit(b.qh, i + 16)) + m;
    }
  });
}

void decode_q8_0(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ8_0>(bytes, out, n, [](const BlockQ8_0& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 32; ++i) w[i] = d * static_cast<float>(b.qs[i]);
  });
}

void decode_q2_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ2_K>(bytes, out, n, [](const BlockQ2_K& b, float* w) {
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int i = 0; i < 256; ++i) {
      const int q = (b.qs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4))) & 3;
      const uint8_t sc = b.scales[i / 16];
      w[i] = d * static_cast<float>(sc & 15) * static_cast<float>(q) -
             dmin * static_cast<float>(sc >> 4);
    }
  });
}

void decode_q3_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ3_K>(bytes, out, n, [](const BlockQ3_K& b, float* w) {
    uint8_t scales[16];
    unpack_scales_k3(b.scales, scales);
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 256; ++i) {
      const int low = (b.qs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4))) & 3;
      const int high = (b.hmask[i % 32] >> (i / 32)) & 1;
      const int scale = scales[i / 16] - 32;
      w[i] = d * static_cast<float>(scale) * static_cast<float>((low | high << 2) - 4);
    }
  });
}

void decode_q4_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ4_K>(bytes, out, n, [](const BlockQ4_K& b, float* w) {
    uint8_t scales[8], mins[8];
    unpack_scales_k4(b.scales, scales, mins);
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int i = 0; i < 256; ++i) {
      const int s = i / 32;
      const int q = (b.qs[32 * (i / 64) + i % 32] >> (4 * (s % 2))) & 15;
      w[i] = d * static_cast<float>(scales[s]) * static_cast<float>(q) -
             dmin * static_cast<float>(mins[s]);
    }
  });
}

void decode_q5_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ5_K>(bytes, out, n, [](const BlockQ5_K& b, float* w) {
    uint8_t scales[8], mins[8];
    unpack_scales_k4(b.scales, scales, mins);
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int i = 0; i < 256; ++i) {
      const int s = i / 32;
      const int low = (b.qs[32 * (i / 64) + i % 32] >> (4 * (s % 2))) & 15;
      const int q = low | (((b.qh[i % 32] >> s) & 1) << 4);
      w[i] = d * static_cast<float>(scales[s]) * static_cast<float>(q) -
             dmin * static_cast<float>(mins[s]);
    }
  });
}

void decode_q6_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ6_K>(bytes, out, n, [](const BlockQ6_K& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 256; ++i) {
      const int h = i / 128, j = i / 32 % 4, l = i % 32;
      const int low = (b.ql[64 * h + 32 * (j % 2) + l] >> (4 * (j / 2))) & 15;
      const int high = (b.qh[32 * h + l] >> (2 * j)) & 3;
      const int scale = b.scales[i / 16];
      w[i] = d * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
    }
  });
}

void encode_f32(const float* values, std::byte* bytes, int64_t n) {
  std::memcpy(bytes, values, static_cast<size_t>(n) * 4);
}

template <uint16_t (*convert)(float)>
void encode_half(const float* values, std::byte* bytes, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half = convert(values[i]);
    std::memcpy(bytes + i * 2, &half, 2);
  }
}

void encode_q8_0(const float* values, std::byte* bytes, int64_t n) {
  for (int64_t i = 0; i < n; i += 32, bytes += sizeof(BlockQ8_0)) {
    float largest = 0;
    for (int j = 0; j < 32; ++j) largest = std::max(largest, std::fabs(values[i + j]));
    const float d = largest / 127.0f;
    const float inverse = d > 0 ? 1.0f / d : 0.0f;
    BlockQ8_0 block;
    block.d = f32_to_f16(d);
    for (int j = 0; j < 32; ++j) {
      block.qs[j] = static_cast<int8_t>(std::lround(values[i + j] * inverse));
    }
    std::memcpy(bytes, &block, sizeof(block));
  }
}

constexpr std::array kFormats = {
    QuantFormatInfo{QuantFormat::kF32, "F32", 1, 4, 0, decode_f32, encode_f32},
    QuantFormatInfo{QuantFormat::kF16, "F16", 1, 2, 1, decode_half<f16_to_f32>,
                    encode_half<f32_to_f16>},
    QuantFormatInfo{QuantFormat::kBF16, "BF16", 1, 2, 30, decode_half<bf16_to_f32>,
                    encode_half<f32_to_bf16>},
    QuantFormatInfo{QuantFormat::kQ4_0, "Q4_0", 32, 18, 2, decode_q4_0, nullptr},
    QuantFormatInfo{QuantFormat::kQ4_1, "Q4_1", 32, 20, 3, decode_q4_1, nullptr},
    QuantFormatInfo{QuantFormat::kQ5_0, "Q5_0", 32, 22, 6, decode_q5_0, nullptr},
    QuantFormatInfo{QuantFormat::kQ5_1, "Q5_1", 32, 24, 7, decode_q5_1, nullptr},
    QuantFormatInfo{QuantFormat::kQ8_0, "Q8_0", 32, 34, 8, decode_q8_0, encode_q8_0},
    QuantFormatInfo{QuantFormat::kQ2_K, "Q2_K", 256, 84, 10, decode_q2_k, nullptr},
    QuantFormatInfo{QuantFormat::kQ3_K, "Q3_K", 256, 110, 11, decode_q3_k, nullptr},
    QuantFormatInfo{QuantFormat::kQ4_K, "Q4_K", 256, 144, 12, decode_q4_k, nullptr},
    QuantFormatInfo{QuantFormat::kQ5_K, "Q5_K", 256, 176, 13, decode_q5_k, nullptr},
    QuantFormatInfo{QuantFormat::kQ6_K, "Q6_K", 256, 210, 14, decode_q6_k, nullptr},
    QuantFormatInfo{QuantFormat::kMlxAffine, "MLX", 0, 0, -1, nullptr, nullptr},
};

constexpr bool table_is_in_enum_order() {
  for (size_t i = 0; i < kFormats.size(); ++i) {
    if (static_cast<size_t>(kFormats[i].format) != i) return false;
  }
  return true;
}
static_assert(table_is_in_enum_order());

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

}  // namespace

std::span<const QuantFormatInfo> quant_formats() { return kFormats; }

const QuantFormatInfo& info(QuantFormat format) { return kFormats[static_cast<size_t>(format)]; }

std::optional<QuantFormat> quant_format_by_name(std::string_view name) {
  for (const QuantFormatInfo& entry : kFormats) {
    if (equal_ignoring_case(entry.name, name)) return entry.format;
  }
  return std::nullopt;
}

std::optional<QuantFormat> quant_format_by_gguf_type(uint32_t type) {
  for (const QuantFormatInfo& entry : kFormats) {
    if (entry.gguf_type >= 0 && static_cast<uint32_t>(entry.gguf_type) == type) return entry.format;
  }
  return std::nullopt;
}

std::string_view gguf_type_name(uint32_t type) {
  if (const auto format = quant_format_by_gguf_type(type)) return info(*format).name;
  static constexpr std::pair<uint32_t, std::string_view> kNames[] = {
      {9, "Q8_1"},   {15, "Q8_K"},   {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
      {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},   {22, "IQ2_S"},  {23, "IQ4_XS"},
      {24, "I8"},    {25, "I16"},    {26, "I32"},     {27, "I64"},    {28, "F64"},
      {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"},  {40, "NVFP4"}};
  for (const auto& [number, name] : kNames) {
    if (number == type) return name;
  }
  return "an unknown type";
}

int64_t row_bytes(QuantFormat format, int64_t elements) {
  const QuantFormatInfo& entry = info(format);
  return elements / entry.block_elements * entry.block_bytes;
}

}  // namespace mlxr
