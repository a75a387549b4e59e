// The one table of weight formats. A format is a fixed-size block of elements; a row of a matrix is
// a whole number of blocks. Everything that loops over formats (readers, kernels, tests) loops over
// this table, so that a new entry is covered by all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mlxr {

enum class QuantFormat : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8_E4M3,  // as OCP FP8 defines them; files call E4M3 what OCP does, without infinities
  kF8_E5M2,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ1_S,
  kIQ1_M,
  kIQ4_NL,
  kIQ4_XS,
  kTQ1_0,
  kTQ2_0,
  kMXFP4,
  kNVFP4,
  kMlxAffine,  // packed integers with separate scales and biases; see WeightView
};

struct QuantFormatInfo {
  QuantFormat format;
  std::string_view name;
  int32_t block_elements;  // 0 for kMlxAffine, whose group and bits belong to the tensor
  int32_t block_bytes;
  int32_t gguf_type;  // the type's number in GGUF files; -1 when GGUF has none
  // Decodes `n` elements (a multiple of block_elements) exactly as the format defines them.
  // The scalar reference that every kernel is tested against. Null for kMlxAffine.
  void (*dequantize)(const std::byte* blocks, float* out, int64_t n);
  // Encodes `n` elements; null when this build only reads the format.
  void (*quantize)(const float* values, std::byte* blocks, int64_t n);
};

std::span<const QuantFormatInfo> quant_formats();
const QuantFormatInfo& info(QuantFormat format);
std::optional<QuantFormat> quant_format_by_name(std::string_view name);  // case-insensitive
std::optional<QuantFormat> quant_format_by_gguf_type(uint32_t type);
// The name GGUF gives a type that this build does not read ("Q8_1"), or "type N".
std::string_view gguf_type_name(uint32_t type);

// Bytes of `elements` consecutive elements. `elements` must be a multiple of the block.
int64_t row_bytes(QuantFormat format, int64_t elements);

}  // namespace mlxr
