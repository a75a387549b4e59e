#include "core/base/float16.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"
#include "core/formats/iq_grids.h"

namespace mlxr {
namespace {

int nibble(const uint8_t* bytes, int i) { return (bytes[i / 2] >> (4 * (i % 2))) & 15; }

// A group of sizeof(Entry) elements: magnitudes from a codebook's entry, bit j of `signs` set where
// element j is negative.
template <class Entry>
void put_signed(Entry magnitudes, unsigned signs, float scale, float* w) {
  for (unsigned j = 0; j < sizeof(Entry); ++j) {
    const float value = scale * static_cast<float>((magnitudes >> (8 * j)) & 255u);
    w[j] = (signs >> j) & 1u ? -value : value;
  }
}

void put_ternary(uint64_t values, float shift, float scale, float* w) {
  for (int j = 0; j < 8; ++j) {
    const auto value = static_cast<int8_t>(values >> (8 * j));
    w[j] = scale * (static_cast<float>(value) + shift);
  }
}

float scale_iq2(float d, uint32_t s) { return d * (0.5f + static_cast<float>(s)) * 0.25f; }

}  // namespace

void decode_iq4_nl(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ4_NL>(bytes, out, n, [](const BlockIQ4_NL& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int i = 0; i < 16; ++i) {
      w[i] = d * static_cast<float>(kValuesIQ4[b.qs[i] & 15]);
      w[i + 16] = d * static_cast<float>(kValuesIQ4[b.qs[i] >> 4]);
    }
  });
}

void decode_iq4_xs(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ4_XS>(bytes, out, n, [](const BlockIQ4_XS& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int s = 0; s < 8; ++s, w += 32) {
      const int scale6 = nibble(b.scales_l, s) | ((b.scales_h >> (2 * s)) & 3) << 4;
      const float scale = d * static_cast<float>(scale6 - 32);
      for (int i = 0; i < 16; ++i) {
        const uint8_t pair = b.qs[16 * s + i];
        w[i] = scale * static_cast<float>(kValuesIQ4[pair & 15]);
        w[i + 16] = scale * static_cast<float>(kValuesIQ4[pair >> 4]);
      }
    }
  });
}

void decode_iq2_xxs(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ2_XXS>(bytes, out, n, [](const BlockIQ2_XXS& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int s = 0; s < 8; ++s) {
      const uint16_t* q = b.qs + 4 * s;
      const uint32_t rest = q[2] | static_cast<uint32_t>(q[3]) << 16;
      const float scale = scale_iq2(d, rest >> 28);
      for (int g = 0; g < 4; ++g, w += 8) {
        const unsigned index = (q[g / 2] >> (8 * (g % 2))) & 255u;
        put_signed(kGridIQ2_XXS[index], signs_of_even_parity((rest >> (7 * g)) & 127), scale, w);
      }
    }
  });
}

void decode_iq2_xs(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ2_XS>(bytes, out, n, [](const BlockIQ2_XS& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int g = 0; g < 32; ++g, w += 8) {
      const float scale = scale_iq2(d, static_cast<uint32_t>(nibble(b.scales, g / 2)));
      put_signed(kGridIQ2_XS[b.qs[g] & 511u], signs_of_even_parity(b.qs[g] >> 9), scale, w);
    }
  });
}

void decode_iq2_s(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ2_S>(bytes, out, n, [](const BlockIQ2_S& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int g = 0; g < 32; ++g, w += 8) {
      const float scale = scale_iq2(d, static_cast<uint32_t>(nibble(b.scales, g / 2)));
      const unsigned high = (b.qh[g / 4] >> (2 * (g % 4))) & 3u;
      put_signed(kGridIQ2_S[b.qs[g] | high << 8], b.signs[g], scale, w);
    }
  });
}

void decode_iq3_xxs(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ3_XXS>(bytes, out, n, [](const BlockIQ3_XXS& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int s = 0; s < 8; ++s) {
      const uint16_t* halves = b.signs_and_scales + 2 * s;
      const uint32_t rest = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
      for (int g = 0; g < 4; ++g, w += 8) {
        const uint8_t signs = signs_of_even_parity((rest >> (7 * g)) & 127);
        const uint8_t* index = b.qs + 8 * s + 2 * g;
        put_signed(kGridIQ3_XXS[index[0]], signs & 15u, scale, w);
        put_signed(kGridIQ3_XXS[index[1]], signs >> 4, scale, w + 4);
      }
    }
  });
}

void decode_iq3_s(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ3_S>(bytes, out, n, [](const BlockIQ3_S& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int g = 0; g < 64; ++g, w += 4) {
      const float scale = d * static_cast<float>(1 + 2 * nibble(b.scales, g / 8));
      const unsigned high = (b.qh[g / 8] >> (g % 8)) & 1u;
      const auto signs = static_cast<unsigned>(nibble(b.signs, g));
      put_signed(kGridIQ3_S[b.qs[g] | high << 8], signs, scale, w);
    }
  });
}

void decode_iq1_s(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ1_S>(bytes, out, n, [](const BlockIQ1_S& b, float* w) {
    const float d = f16_to_f32(b.d);
    for (int g = 0; g < 32; ++g, w += 8) {
      const unsigned qh = b.qh[g / 4];
      const float scale = d * static_cast<float>(2 * ((qh >> 12) & 7u) + 1);
      const unsigned high = (qh >> (3 * (g % 4))) & 7u;
      put_ternary(kGridIQ1[b.qs[g] | high << 8], qh & 0x8000u ? -0.125f : 0.125f, scale, w);
    }
  });
}

void decode_iq1_m(const std::byte* bytes, float* out, int64_t n) {
  each_block<BlockIQ1_M>(bytes, out, n, [](const BlockIQ1_M& b, float* w) {
    const float d = f16_to_f32(unpack_d_iq1_m(b.scales));
    for (int g = 0; g < 32; ++g, w += 8) {
      const unsigned s = (b.scales[g / 8] >> (3 * (g / 2 % 4))) & 7u;
      const float scale = d * static_cast<float>(2 * s + 1);
      const auto qh = static_cast<unsigned>(nibble(b.qh, g));
      put_ternary(kGridIQ1[b.qs[g] | (qh & 7u) << 8], qh & 8u ? -0.125f : 0.125f, scale, w);
    }
  });
}

}  // namespace mlxr
