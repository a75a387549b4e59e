#include "core/formats/weight_view.h"

#include <cstring>

#include "core/base/float16.h"

namespace mlxr {
namespace {

float element(std::span<const std::byte> bytes, QuantFormat format, int64_t index) {
  if (format == QuantFormat::kF32) {
    float value = 0;
    std::memcpy(&value, bytes.data() + index * 4, 4);
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, bytes.data() + index * 2, 2);
  return format == QuantFormat::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

void dequantize_affine_row(const WeightView& w, int64_t row, float* out) {
  const int64_t columns = w.columns();
  const int64_t groups = columns / w.group;
  const std::byte* packed = w.bytes.data() + row * (columns * w.bits / 8);
  const uint32_t mask = (1u << w.bits) - 1;
  for (int64_t c = 0; c < columns; ++c) {
    const int64_t bit = c * w.bits;
    uint32_t window = static_cast<uint32_t>(packed[bit / 8]);
    if (bit % 8 + w.bits > 8) window |= static_cast<uint32_t>(packed[bit / 8 + 1]) << 8;
    const auto q = static_cast<float>((window >> (bit % 8)) & mask);
    const int64_t g = row * groups + c / w.group;
    out[c] = element(w.scales, w.scale_format, g) * q + element(w.biases, w.scale_format, g);
  }
}

}  // namespace

void dequantize_row(const WeightView& weight, int64_t row, float* out) {
  if (weight.format == QuantFormat::kMlxAffine) return dequantize_affine_row(weight, row, out);
  const int64_t stride = row_bytes(weight.format, weight.columns());
  info(weight.format).dequantize(weight.bytes.data() + row * stride, out, weight.columns());
}

std::string format_name(const WeightView& weight) {
  if (weight.format != QuantFormat::kMlxAffine) return std::string(info(weight.format).name);
  return "MLX" + std::to_string(weight.bits) + "-G" + std::to_string(weight.group);
}

}  // namespace mlxr
