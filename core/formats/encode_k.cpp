// Encoders of the blocks of 256 whose sub-blocks have integer scales (and minima) times those of
// the block. All of them are one search over different levels, then a packing each.
#include "core/base/float16.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"
#include "core/formats/scale_search.h"

namespace mlxr {
namespace {

using Values = std::span<const float, 256>;

// What a format's sub-blocks can be: x ~ d * scale * level - dmin * min.
struct SubBlocks {
  int count;             // 8 or 16
  IntegerLevels scales;  // from 0 where there are minima
  int highest_min;       // 0 for formats without minima

  int size() const { return 256 / count; }
  bool has_mins() const { return highest_min > 0; }
  std::span<const float> part(Values x, int s) const {
    const auto n = static_cast<size_t>(size());
    return x.subspan(static_cast<size_t>(s) * n, n);
  }
};

struct Fit {
  float d = 0, dmin = 0;  // values that float16 holds
  int scales[16] = {};
  int mins[16] = {};
  int levels[256] = {};
  float error = std::numeric_limits<float>::infinity();
};

float rounded_to_f16(float v) { return f16_to_f32(f32_to_f16(v)); }

// d and dmin from the best scale and minimum of each sub-block alone, which are then the first
// guess of the integers.
template <class Levels>
Fit first_guess(Values x, const SubBlocks& sub, const Levels& levels) {
  float scales[16] = {}, depths[16] = {};
  for (int s = 0; s < sub.count; ++s) {
    const auto part = sub.part(x, s);
    if (sub.has_mins()) {
      const ScaleAndMin fit = fit_scale_and_min(part, levels.highest, true);
      scales[s] = fit.scale;
      depths[s] = -fit.min;
    } else {
      scales[s] = fit_scale(part, levels);
    }
  }
  const auto count = static_cast<size_t>(sub.count);
  const IntegerLevels mins{0, sub.highest_min};
  Fit fit;
  fit.d = rounded_to_f16(fit_scale(std::span<const float>(scales, count), sub.scales));
  if (sub.has_mins()) {
    fit.dmin = rounded_to_f16(fit_scale(std::span<const float>(depths, count), mins));
  }
  for (int s = 0; s < sub.count; ++s) {
    if (fit.d != 0) fit.scales[s] = sub.scales.nearest(scales[s] / fit.d);
    if (fit.dmin != 0) fit.mins[s] = mins.nearest(depths[s] / fit.dmin);
  }
  return fit;
}

// For each sub-block the best of the integers next to its scale and minimum, d and dmin being
// given.
template <class Levels>
void choose_integers(Values x, const SubBlocks& sub, const Levels& levels, Fit& fit) {
  fit.error = 0;
  const int reach = sub.has_mins() ? 1 : 0;
  for (int s = 0; s < sub.count; ++s) {
    const auto part = sub.part(x, s);
    float best = std::numeric_limits<float>::infinity();
    const int scale = fit.scales[s], min = fit.mins[s];
    for (int a = std::max(scale - 1, sub.scales.lowest);
         a <= std::min(scale + 1, sub.scales.highest); ++a) {
      for (int b = std::max(min - reach, 0); b <= std::min(min + reach, sub.highest_min); ++b) {
        const float error = squared_error(part, fit.d * static_cast<float>(a),
                                          -fit.dmin * static_cast<float>(b), levels);
        if (error >= best) continue;
        best = error;
        fit.scales[s] = a;
        fit.mins[s] = b;
      }
    }
    fit.error += best;
    const float chosen = fit.d * static_cast<float>(fit.scales[s]);
    const float depth = fit.dmin * static_cast<float>(fit.mins[s]);
    const float inverse = chosen != 0 ? 1.0f / chosen : 0.0f;
    int* out = fit.levels + static_cast<ptrdiff_t>(s) * sub.size();
    for (float v : part) *out++ = levels.nearest((v + depth) * inverse);
  }
}

// d and dmin by least squares over the block, its integers being given.
void refit_floats(Values x, const SubBlocks& sub, Fit& fit) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (int i = 0; i < 256; ++i) {
    const int s = i / sub.size();
    const double a = fit.scales[s] * fit.levels[i], b = -fit.mins[s];
    const double v = x[static_cast<size_t>(i)];
    aa += a * a;
    ab += a * b;
    bb += b * b;
    xa += v * a;
    xb += v * b;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 0) {
    const double d = (xa * bb - xb * ab) / determinant, dmin = (xb * aa - xa * ab) / determinant;
    if (d > 0 && dmin > 0) {
      fit.d = rounded_to_f16(static_cast<float>(d));
      fit.dmin = rounded_to_f16(static_cast<float>(dmin));
    }
  } else if (aa > 0) {
    fit.d = rounded_to_f16(static_cast<float>(xa / aa));
  }
}

template <class Levels>
Fit fit_block(Values x, const SubBlocks& sub, const Levels& levels) {
  Fit fit = first_guess(x, sub, levels);
  choose_integers(x, sub, levels, fit);
  Fit best = fit;
  for (int round = 0; round < 2; ++round) {
    refit_floats(x, sub, fit);
    choose_integers(x, sub, levels, fit);
    if (fit.error < best.error) best = fit;
  }
  return best;
}

// The inverse of unpack_scales_k4.
void pack_scales_k4(const Fit& fit, uint8_t packed[12]) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>(fit.scales[i] | (fit.scales[i + 4] >> 4) << 6);
    packed[i + 4] = static_cast<uint8_t>(fit.mins[i] | (fit.mins[i + 4] >> 4) << 6);
    packed[i + 8] = static_cast<uint8_t>((fit.scales[i + 4] & 15) | (fit.mins[i + 4] & 15) << 4);
  }
}

// The inverse of unpack_scales_k3.
void pack_scales_k3(const Fit& fit, uint8_t packed[12]) {
  std::fill_n(packed, 12, uint8_t{0});
  for (int i = 0; i < 16; ++i) {
    const int scale = fit.scales[i] + 32;
    packed[i % 8] |= static_cast<uint8_t>((scale & 15) << (4 * (i / 8)));
    packed[8 + i % 4] |= static_cast<uint8_t>((scale >> 4) << (2 * (i / 4)));
  }
}

// Two bits of code a byte for each of four runs of 32 elements, as Q2_K and Q3_K have them.
void put_two_bits(uint8_t qs[64], int i, int code) {
  qs[32 * (i / 128) + i % 32] |= static_cast<uint8_t>((code & 3) << (2 * (i / 32 % 4)));
}

void put_nibble(uint8_t qs[128], int i, int code) {
  qs[32 * (i / 64) + i % 32] |= static_cast<uint8_t>((code & 15) << (4 * (i / 32 % 2)));
}

}  // namespace

void encode_q2_k(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit =
        fit_block(x, {.count = 16, .scales = {0, 15}, .highest_min = 15}, IntegerLevels{0, 3});
    BlockQ2_K block{};
    block.d = f32_to_f16(fit.d);
    block.dmin = f32_to_f16(fit.dmin);
    for (int s = 0; s < 16; ++s) {
      block.scales[s] = static_cast<uint8_t>(fit.scales[s] | fit.mins[s] << 4);
    }
    for (int i = 0; i < 256; ++i) put_two_bits(block.qs, i, fit.levels[i]);
    return block;
  });
}

void encode_q3_k(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit =
        fit_block(x, {.count = 16, .scales = {-32, 31}, .highest_min = 0}, IntegerLevels{-4, 3});
    BlockQ3_K block{};
    block.d = f32_to_f16(fit.d);
    pack_scales_k3(fit, block.scales);
    for (int i = 0; i < 256; ++i) {
      const int code = fit.levels[i] + 4;
      put_two_bits(block.qs, i, code);
      block.hmask[i % 32] |= static_cast<uint8_t>((code >> 2) << (i / 32));
    }
    return block;
  });
}

void encode_q4_k(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit =
        fit_block(x, {.count = 8, .scales = {0, 63}, .highest_min = 63}, IntegerLevels{0, 15});
    BlockQ4_K block{};
    block.d = f32_to_f16(fit.d);
    block.dmin = f32_to_f16(fit.dmin);
    pack_scales_k4(fit, block.scales);
    for (int i = 0; i < 256; ++i) put_nibble(block.qs, i, fit.levels[i]);
    return block;
  });
}

void encode_q5_k(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit =
        fit_block(x, {.count = 8, .scales = {0, 63}, .highest_min = 63}, IntegerLevels{0, 31});
    BlockQ5_K block{};
    block.d = f32_to_f16(fit.d);
    block.dmin = f32_to_f16(fit.dmin);
    pack_scales_k4(fit, block.scales);
    for (int i = 0; i < 256; ++i) {
      put_nibble(block.qs, i, fit.levels[i]);
      block.qh[i % 32] |= static_cast<uint8_t>((fit.levels[i] >> 4) << (i / 32));
    }
    return block;
  });
}

void encode_q6_k(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit = fit_block(x, {.count = 16, .scales = {-128, 127}, .highest_min = 0},
                              IntegerLevels{-32, 31});
    BlockQ6_K block{};
    block.d = f32_to_f16(fit.d);
    for (int s = 0; s < 16; ++s) block.scales[s] = static_cast<int8_t>(fit.scales[s]);
    for (int i = 0; i < 256; ++i) {
      const int code = fit.levels[i] + 32;
      const int h = i / 128, j = i / 32 % 4, l = i % 32;
      block.ql[64 * h + 32 * (j % 2) + l] |= static_cast<uint8_t>((code & 15) << (4 * (j / 2)));
      block.qh[32 * h + l] |= static_cast<uint8_t>((code >> 4) << (2 * j));
    }
    return block;
  });
}

void encode_iq4_xs(const float* values, std::byte* bytes, int64_t n) {
  encode_each_block<256>(values, bytes, n, [](Values x) {
    const Fit fit = fit_block(x, {.count = 8, .scales = {-32, 31}, .highest_min = 0}, Iq4Levels());
    BlockIQ4_XS block{};
    block.d = f32_to_f16(fit.d);
    for (int s = 0; s < 8; ++s) {
      const int scale = fit.scales[s] + 32;
      block.scales_l[s / 2] |= static_cast<uint8_t>((scale & 15) << (4 * (s % 2)));
      block.scales_h |= static_cast<uint16_t>((scale >> 4) << (2 * s));
    }
    for (int i = 0; i < 256; ++i) {
      const int code = Iq4Levels::code_of(fit.levels[i]);
      block.qs[16 * (i / 32) + i % 16] |= static_cast<uint8_t>(code << (4 * (i / 16 % 2)));
    }
    return block;
  });
}

}  // namespace mlxr
