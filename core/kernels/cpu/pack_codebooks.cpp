#include "core/kernels/cpu/pack_codebooks.h"

#include <cstddef>
#include <cstring>

#include "core/formats/block_layouts.h"
#include "core/formats/iq_grids.h"

namespace mlxr::cpu {
namespace {

template <class Block>
Block load(const uint8_t* bytes) {  // blocks may lie unaligned
  Block b;
  std::memcpy(&b, bytes, sizeof(b));
  return b;
}

constexpr uint64_t in_each_byte(uint64_t value) { return value * 0x0101010101010101u; }

// Bit i of `bits` in byte i.
uint64_t spread_bits(uint64_t bits) {
  const uint64_t own = in_each_byte(bits) & 0x8040201008040201u;
  return ((own + in_each_byte(0x7f)) >> 7) & in_each_byte(1);
}

void put8(uint64_t q, uint8_t* out) { std::memcpy(out, &q, 8); }

// Magnitudes 8, 25 and 43 are 0, 1 and 2 sixteens and a rest; a sign is bit 2.
void put_iq2(uint64_t magnitudes, uint8_t signs, uint8_t* q) {
  put8(((magnitudes >> 4) & in_each_byte(3)) | spread_bits(signs) << 2, q);
}

// Eight magnitudes in steps of 2^shift, from two entries; a sign is bit 3.
template <int shift>
void put_iq3(uint32_t first, uint32_t second, uint8_t signs, uint8_t* q) {
  const uint64_t magnitudes = first | uint64_t{second} << 32;
  put8(((magnitudes >> shift) & in_each_byte(7)) | spread_bits(signs) << 3, q);
}

// -1, 0 and 1 become 0, 1 and 2; a shift downwards is bit 2.
void put_iq1(uint64_t values, bool downwards, uint8_t* q) {
  const uint64_t g = ((values & in_each_byte(3)) + in_each_byte(1)) & in_each_byte(3);
  put8(g | (downwards ? in_each_byte(4) : 0), q);
}

uint32_t word_of(const uint16_t* halves) { return halves[0] | uint32_t{halves[1]} << 16; }
unsigned nibble(const uint8_t* bytes, int i) { return (bytes[i / 2] >> (4 * (i % 2))) & 15u; }
uint8_t odd(unsigned s) { return static_cast<uint8_t>(2 * s + 1); }

// Eight elements at a time: group g of a block, to q. As decode_iq.cpp reads them.
void group_indices(const BlockIQ2_XXS& b, int g, uint8_t* q) {
  const uint16_t* four = b.qs + g / 4 * 4;
  const int i = g % 4;
  const unsigned index = (four[i / 2] >> (8 * (i % 2))) & 255u;
  put_iq2(kGridIQ2_XXS[index], signs_of_even_parity((word_of(four + 2) >> (7 * i)) & 127), q);
}
void group_indices(const BlockIQ2_XS& b, int g, uint8_t* q) {
  put_iq2(kGridIQ2_XS[b.qs[g] & 511u], signs_of_even_parity(b.qs[g] >> 9), q);
}
void group_indices(const BlockIQ2_S& b, int g, uint8_t* q) {
  const unsigned high = (b.qh[g / 4] >> (2 * (g % 4))) & 3u;
  put_iq2(kGridIQ2_S[b.qs[g] | high << 8], b.signs[g], q);
}
void group_indices(const BlockIQ3_XXS& b, int g, uint8_t* q) {
  const uint32_t rest = word_of(b.signs_and_scales + g / 4 * 2);
  const uint8_t signs = signs_of_even_parity((rest >> (7 * (g % 4))) & 127);
  put_iq3<3>(kGridIQ3_XXS[b.qs[2 * g]], kGridIQ3_XXS[b.qs[2 * g + 1]], signs, q);
}
void group_indices(const BlockIQ3_S& b, int g, uint8_t* q) {
  const auto entry = [&](int i) {
    const unsigned high = (b.qh[i / 8] >> (i % 8)) & 1u;
    return kGridIQ3_S[b.qs[i] | high << 8];
  };
  put_iq3<1>(entry(2 * g), entry(2 * g + 1), b.signs[g], q);
}
void group_indices(const BlockIQ1_S& b, int g, uint8_t* q) {
  const unsigned qh = b.qh[g / 4];
  const unsigned high = (qh >> (3 * (g % 4))) & 7u;
  put_iq1(kGridIQ1[b.qs[g] | high << 8], (qh & 0x8000u) != 0, q);
}
void group_indices(const BlockIQ1_M& b, int g, uint8_t* q) {
  const unsigned qh = nibble(b.qh, g);
  put_iq1(kGridIQ1[b.qs[g] | (qh & 7u) << 8], (qh & 8u) != 0, q);
}

template <class Block>
void chunk_indices(const uint8_t* block, int j, uint8_t* q) {
  const auto b = load<Block>(block);
  for (int g = 0; g < 4; ++g) group_indices(b, 4 * j + g, q + 8 * g);
}

int odd_nibbles(const uint8_t* nibbles, int count, uint8_t* bytes) {
  for (int s = 0; s < count; ++s) bytes[s] = odd(nibble(nibbles, s));
  return count;
}

int scale_bytes_of(const BlockIQ4_XS& b, uint8_t* bytes) {
  for (int s = 0; s < 8; ++s) {
    const unsigned high = (b.scales_h >> (2 * s)) & 3u;
    bytes[s] = static_cast<uint8_t>((nibble(b.scales_l, s) | high << 4) - 32);
  }
  return 8;
}
int scale_bytes_of(const BlockIQ2_XXS& b, uint8_t* bytes) {
  for (int s = 0; s < 8; ++s) bytes[s] = odd(b.qs[4 * s + 3] >> 12);
  return 8;
}
int scale_bytes_of(const BlockIQ3_XXS& b, uint8_t* bytes) {
  for (int s = 0; s < 8; ++s) bytes[s] = odd(b.signs_and_scales[2 * s + 1] >> 12);
  return 8;
}
int scale_bytes_of(const BlockIQ1_S& b, uint8_t* bytes) {
  for (int s = 0; s < 8; ++s) bytes[s] = odd((b.qh[s] >> 12) & 7u);
  return 8;
}
int scale_bytes_of(const BlockIQ1_M& b, uint8_t* bytes) {
  for (int s = 0; s < 16; ++s) bytes[s] = odd((b.scales[s / 4] >> (3 * (s % 4))) & 7u);
  return 16;
}
// Without signs; the NaN 0x7f is zero (half_of_nvfp4_scale).
int scale_bytes_of(const BlockNVFP4& b, uint8_t* bytes) {
  for (int s = 0; s < 4; ++s) bytes[s] = b.d[s] == 0x7f ? uint8_t{0} : uint8_t(b.d[s] & 0x7f);
  return 4;
}

}  // namespace

void codebook_indices(QuantFormat format, const uint8_t* block, int j, uint8_t* q) {
  switch (format) {
    case QuantFormat::kIQ2_XXS:
      return chunk_indices<BlockIQ2_XXS>(block, j, q);
    case QuantFormat::kIQ2_XS:
      return chunk_indices<BlockIQ2_XS>(block, j, q);
    case QuantFormat::kIQ2_S:
      return chunk_indices<BlockIQ2_S>(block, j, q);
    case QuantFormat::kIQ3_XXS:
      return chunk_indices<BlockIQ3_XXS>(block, j, q);
    case QuantFormat::kIQ3_S:
      return chunk_indices<BlockIQ3_S>(block, j, q);
    case QuantFormat::kIQ1_S:
      return chunk_indices<BlockIQ1_S>(block, j, q);
    default:
      return chunk_indices<BlockIQ1_M>(block, j, q);
  }
}

int scale_bytes(QuantFormat format, const uint8_t* block, uint8_t* bytes) {
  switch (format) {
    case QuantFormat::kIQ2_XXS:
      return scale_bytes_of(load<BlockIQ2_XXS>(block), bytes);
    case QuantFormat::kIQ2_XS:
      return odd_nibbles(block + offsetof(BlockIQ2_XS, scales), 16, bytes);
    case QuantFormat::kIQ2_S:
      return odd_nibbles(block + offsetof(BlockIQ2_S, scales), 16, bytes);
    case QuantFormat::kIQ3_XXS:
      return scale_bytes_of(load<BlockIQ3_XXS>(block), bytes);
    case QuantFormat::kIQ3_S:
      return odd_nibbles(block + offsetof(BlockIQ3_S, scales), 8, bytes);
    case QuantFormat::kIQ1_S:
      return scale_bytes_of(load<BlockIQ1_S>(block), bytes);
    case QuantFormat::kIQ1_M:
      return scale_bytes_of(load<BlockIQ1_M>(block), bytes);
    case QuantFormat::kIQ4_XS:
      return scale_bytes_of(load<BlockIQ4_XS>(block), bytes);
    default:
      return scale_bytes_of(load<BlockNVFP4>(block), bytes);
  }
}

uint16_t scale_iq1_m(const uint8_t* block) {
  return unpack_d_iq1_m(load<BlockIQ1_M>(block).scales);
}

void ternary_digits(const uint8_t* block, int j, uint8_t* q) {
  static constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  const auto b = load<BlockTQ1_0>(block);
  const auto digit = [](uint8_t byte, int n) {
    const auto fraction = static_cast<uint8_t>(byte * kPowers[n]);
    return static_cast<uint8_t>((fraction * 3) >> 8);
  };
  for (int i = 0; i < 32; ++i) {
    const int late = 32 * j + i - 160, last = late - 80;
    q[i] = late < 0   ? digit(b.qs[i], j)
           : last < 0 ? digit(b.qs[32 + late % 16], late / 16)
                      : digit(b.qh[last % 4], last / 4);
  }
}

}  // namespace mlxr::cpu
