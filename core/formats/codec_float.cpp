#include "core/base/float16.h"
#include "core/base/float8.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"

namespace mlxr {
namespace {

template <class Stored, class Convert>
void decode_scalars(const std::byte* bytes, float* out, int64_t n, Convert convert) {
  for (int64_t i = 0; i < n; ++i) {
    Stored stored = 0;
    std::memcpy(&stored, bytes + i * static_cast<int64_t>(sizeof(Stored)), sizeof(Stored));
    out[i] = convert(stored);
  }
}

template <class Stored, class Convert>
void encode_scalars(const float* values, std::byte* bytes, int64_t n, Convert convert) {
  for (int64_t i = 0; i < n; ++i) {
    const Stored stored = convert(values[i]);
    std::memcpy(bytes + i * static_cast<int64_t>(sizeof(Stored)), &stored, sizeof(Stored));
  }
}

// Half of an NVFP4 scale: E4M3 whose sign is ignored, and whose NaN is zero when it is positive (as
// ggml decodes it).
float half_of_nvfp4_scale(uint8_t d) {
  if (d == 0x7f) return 0.0f;
  if ((d & 0x7f) == 0x7f) return 240.0f;
  return 0.5f * f8_e4m3_to_f32(d & 0x7f);
}

}  // namespace

void decode_f32(const std::byte* bytes, float* out, int64_t n) {
  std::memcpy(out, bytes, static_cast<size_t>(n) * 4);
}
void decode_f16(const std::byte* bytes, float* out, int64_t n) {
  decode_scalars<uint16_t>(bytes, out, n, f16_to_f32);
}
void decode_bf16(const std::byte* bytes, float* out, int64_t n) {
  decode_scalars<uint16_t>(bytes, out, n, bf16_to_f32);
}
void decode_f8_e4m3(const std::byte* bytes, float* out, int64_t n) {
  decode_scalars<uint8_t>(bytes, out, n, f8_e4m3_to_f32);
}
void decode_f8_e5m2(const std::byte* bytes, float* out, int64_t n) {
  decode_scalars<uint8_t>(bytes, out, n, f8_e5m2_to_f32);
}

void encode_f32(const float* values, std::byte* bytes, int64_t n) {
  std::memcpy(bytes, values, static_cast<size_t>(n) * 4);
}
void encode_f16(const float* values, std::byte* bytes, int64_t n) {
  encode_scalars<uint16_t>(values, bytes, n, f32_to_f16);
}
void encode_bf16(const float* values, std::byte* bytes, int64_t n) {
  encode_scalars<uint16_t>(values, bytes, n, f32_to_bf16);
}

void decode_mxfp4(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockMXFP4>(bytes, out, n, [](const BlockMXFP4& b, float* w) {
    const float d = half_of_f8_e8m0(b.e);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>(kValuesE2M1[b.qs[i] & 15]);
      w[i + 16] = d * static_cast<float>(kValuesE2M1[b.qs[i] >> 4]);
    }
  });
}

void decode_nvfp4(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockNVFP4>(bytes, out, n, [](const BlockNVFP4& b, float* w) {
    for (int s = 0; s < 4; ++s) {
      const float d = half_of_nvfp4_scale(b.d[s]);
      for (int i = 0; i < 8; ++i) {
        const uint8_t pair = b.qs[8 * s + i];
        w[16 * s + i] = d * static_cast<float>(kValuesE2M1[pair & 15]);
        w[16 * s + i + 8] = d * static_cast<float>(kValuesE2M1[pair >> 4]);
      }
    }
  });
}

}  // namespace mlxr
