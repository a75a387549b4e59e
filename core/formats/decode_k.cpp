#include "core/base/float16.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"

namespace mlxr {

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

void decode_q8_k(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockQ8_K>(bytes, out, n, [](const BlockQ8_K& b, float* w) {
    float d = 0;
    std::memcpy(&d, b.d, sizeof(d));
    for (int i = 0; i < 256; ++i) w[i] = d * static_cast<float>(b.qs[i]);
  });
}

namespace {

// Digit `n` of the base-3 fraction `byte`, less one. Bytes that no five digits encode decode as
// ggml decodes them.
int trit(uint8_t byte, int n) {
  static constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  const auto fraction = static_cast<uint8_t>(byte * kPowers[n]);
  return ((fraction * 3) >> 8) - 1;
}

}  // namespace

void decode_tq1_0(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockTQ1_0>(bytes, out, n, [](const BlockTQ1_0& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 160; ++i) w[i] = d * static_cast<float>(trit(b.qs[i % 32], i / 32));
    for (int i = 0; i < 80; ++i) {
      w[160 + i] = d * static_cast<float>(trit(b.qs[32 + i % 16], i / 16));
    }
    for (int i = 0; i < 16; ++i) w[240 + i] = d * static_cast<float>(trit(b.qh[i % 4], i / 4));
  });
}

void decode_tq2_0(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockTQ2_0>(bytes, out, n, [](const BlockTQ2_0& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 256; ++i) {
      const int q = (b.qs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4))) & 3;
      w[i] = d * static_cast<float>(q - 1);
    }
  });
}

}  // namespace mlxr
