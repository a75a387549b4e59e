#include "core/base/float16.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"

namespace mlxr {

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

namespace {

int fifth_bit(const uint8_t qh[4], int i) { return ((qh[i / 8] >> (i % 8)) & 1) << 4; }

}  // namespace

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

}  // namespace mlxr
