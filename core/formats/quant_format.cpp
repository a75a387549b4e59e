#include "core/formats/quant_format.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"

namespace mlxr {
namespace {

template <class Block>
constexpr QuantFormatInfo blocks(QuantFormat format, std::string_view name, int32_t gguf_type,
                                 DecodeBlocks* decode, EncodeBlocks* encode = nullptr) {
  return {format, name, Block::kElements, sizeof(Block), gguf_type, decode, encode};
}

constexpr QuantFormatInfo scalars(QuantFormat format, std::string_view name, int32_t bytes,
                                  int32_t gguf_type, DecodeBlocks* decode,
                                  EncodeBlocks* encode = nullptr) {
  return {format, name, 1, bytes, gguf_type, decode, encode};
}

using enum QuantFormat;

constexpr std::array kFormats = {
    scalars(kF32, "F32", 4, 0, decode_f32, encode_f32),
    scalars(kF16, "F16", 2, 1, decode_f16, encode_f16),
    scalars(kBF16, "BF16", 2, 30, decode_bf16, encode_bf16),
    scalars(kF8_E4M3, "F8_E4M3", 1, -1, decode_f8_e4m3),
    scalars(kF8_E5M2, "F8_E5M2", 1, -1, decode_f8_e5m2),
    blocks<BlockQ4_0>(kQ4_0, "Q4_0", 2, decode_q4_0, encode_q4_0),
    blocks<BlockQ4_1>(kQ4_1, "Q4_1", 3, decode_q4_1, encode_q4_1),
    blocks<BlockQ5_0>(kQ5_0, "Q5_0", 6, decode_q5_0, encode_q5_0),
    blocks<BlockQ5_1>(kQ5_1, "Q5_1", 7, decode_q5_1, encode_q5_1),
    blocks<BlockQ8_0>(kQ8_0, "Q8_0", 8, decode_q8_0, encode_q8_0),
    blocks<BlockQ2_K>(kQ2_K, "Q2_K", 10, decode_q2_k, encode_q2_k),
    blocks<BlockQ3_K>(kQ3_K, "Q3_K", 11, decode_q3_k, encode_q3_k),
    blocks<BlockQ4_K>(kQ4_K, "Q4_K", 12, decode_q4_k, encode_q4_k),
    blocks<BlockQ5_K>(kQ5_K, "Q5_K", 13, decode_q5_k, encode_q5_k),
    blocks<BlockQ6_K>(kQ6_K, "Q6_K", 14, decode_q6_k, encode_q6_k),
    blocks<BlockQ8_K>(kQ8_K, "Q8_K", 15, decode_q8_k),
    blocks<BlockIQ2_XXS>(kIQ2_XXS, "IQ2_XXS", 16, decode_iq2_xxs),
    blocks<BlockIQ2_XS>(kIQ2_XS, "IQ2_XS", 17, decode_iq2_xs),
    blocks<BlockIQ2_S>(kIQ2_S, "IQ2_S", 22, decode_iq2_s),
    blocks<BlockIQ3_XXS>(kIQ3_XXS, "IQ3_XXS", 18, decode_iq3_xxs),
    blocks<BlockIQ3_S>(kIQ3_S, "IQ3_S", 21, decode_iq3_s),
    blocks<BlockIQ1_S>(kIQ1_S, "IQ1_S", 19, decode_iq1_s),
    blocks<BlockIQ1_M>(kIQ1_M, "IQ1_M", 29, decode_iq1_m),
    blocks<BlockIQ4_NL>(kIQ4_NL, "IQ4_NL", 20, decode_iq4_nl, encode_iq4_nl),
    blocks<BlockIQ4_XS>(kIQ4_XS, "IQ4_XS", 23, decode_iq4_xs, encode_iq4_xs),
    blocks<BlockTQ1_0>(kTQ1_0, "TQ1_0", 34, decode_tq1_0),
    blocks<BlockTQ2_0>(kTQ2_0, "TQ2_0", 35, decode_tq2_0),
    blocks<BlockMXFP4>(kMXFP4, "MXFP4", 39, decode_mxfp4, encode_mxfp4),
    blocks<BlockNVFP4>(kNVFP4, "NVFP4", 40, decode_nvfp4),
    QuantFormatInfo{kMlxAffine, "MLX", 0, 0, -1, nullptr, nullptr},
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
      {9, "Q8_1"}, {24, "I8"},  {25, "I16"},  {26, "I32"},
      {27, "I64"}, {28, "F64"}, {41, "Q1_0"}, {42, "Q2_0"}};
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
