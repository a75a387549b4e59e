// The memory layout of each GGUF block format (all little-endian, no padding), as GGUF files hold
// them. Element order and bit packing are described at each struct.
// Reference: the GGUF specification and ggml's public block definitions.
#pragma once

#include <cstdint>

namespace mlxr {

// w[i] = d * (q[i] - 8); byte j holds q[j] low, q[j+16] high.
struct BlockQ4_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qs[16];
};

// w[i] = d * q[i] + m; nibbles as Q4_0.
struct BlockQ4_1 {
  static constexpr int kElements = 32;
  uint16_t d, m;
  uint8_t qs[16];
};

// w[i] = d * (q[i] - 16); low nibbles as Q4_0, bit i of qh is the fifth bit of q[i].
struct BlockQ5_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};

// w[i] = d * q[i] + m; bits as Q5_0.
struct BlockQ5_1 {
  static constexpr int kElements = 32;
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};

// w[i] = d * q[i].
struct BlockQ8_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  int8_t qs[32];
};

// 16 sub-blocks of 16: w = d * (scales[s] & 15) * q - dmin * (scales[s] >> 4).
// q of element 128*h + 32*j + l (h < 2, j < 4, l < 32) is bits 2j.. of qs[32*h + l].
struct BlockQ2_K {
  static constexpr int kElements = 256;
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d, dmin;
};

// 16 sub-blocks of 16: w = d * (scale6[s] - 32) * (q - 4), q of three bits: two in qs as in Q2_K,
// the third of element 128*h + 32*j + l is bit 4h + j of hmask[l]. The 6-bit scales are packed in
// 12 bytes.
struct BlockQ3_K {
  static constexpr int kElements = 256;
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};

// 8 sub-blocks of 32: w = d * scale6[s] * q - dmin * min6[s].
// Element 64*p + l is the low nibble of qs[32*p + l], element 64*p + 32 + l the high one.
struct BlockQ4_K {
  static constexpr int kElements = 256;
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};

// As Q4_K, with a fifth bit: bit s of qh[l] for element l of sub-block s.
struct BlockQ5_K {
  static constexpr int kElements = 256;
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};

// 16 sub-blocks of 16: w = d * scales[s] * (q - 32), q of six bits: element 128*h + 32*j + l takes
// nibble (j / 2) of ql[64*h + 32*(j % 2) + l] and bits 2j.. of qh[32*h + l].
struct BlockQ6_K {
  static constexpr int kElements = 256;
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};

// w[i] = d * q[i]. Files hold it rarely: it is the form of activations in ggml's K kernels.
// bsums[j] is the sum of q[16*j .. 16*j + 15], which the values do not depend on.
struct BlockQ8_K {
  static constexpr int kElements = 256;
  uint8_t d[4];  // float32
  int8_t qs[256];
  uint8_t bsums[32];  // 16 int16
};

// w[i] = d * kValuesIQ4[q[i]]; nibbles as Q4_0.
struct BlockIQ4_NL {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qs[16];
};

// 8 sub-blocks of 32, each with nibbles as IQ4_NL: w = d * (scale6[s] - 32) * kValuesIQ4[q].
// scale6[s] has its low four bits in nibble s of scales_l, the high two in bits 2s.. of scales_h.
struct BlockIQ4_XS {
  static constexpr int kElements = 256;
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

// In the IQ2 and IQ3 blocks a weight is scale * sign * magnitude, magnitudes of eight or four at
// once from a codebook (iq_grids.h). Seven-bit signs are those of signs_of_even_parity.

// 8 sub-blocks of 32, each of two little-endian words in qs: four bytes that index kGridIQ2_XXS,
// then four times seven sign bits with s of four bits above them. scale = d * (s + 1/2) / 4.
struct BlockIQ2_XXS {
  static constexpr int kElements = 256;
  uint16_t d;
  uint16_t qs[32];
};

// Each qs is eight elements: nine bits of index in kGridIQ2_XS, then seven sign bits. Nibble j of
// scales is s of elements 16*j .. 16*j + 15; scale = d * (s + 1/2) / 4.
struct BlockIQ2_XS {
  static constexpr int kElements = 256;
  uint16_t d;
  uint16_t qs[32];
  uint8_t scales[8];
};

// Group g of eight elements: index in kGridIQ2_S of the eight bits qs[g] and two of qh (2 * (g % 4)
// of qh[g / 4]), one sign a bit in signs[g]. Scales as IQ2_XS.
struct BlockIQ2_S {
  static constexpr int kElements = 256;
  uint16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];
};

// 64 groups of four with indices qs in kGridIQ3_XXS, then a little-endian word for each 32 elements
// with four times seven sign bits and s above them. scale = d * (s + 1/2) / 2.
struct BlockIQ3_XXS {
  static constexpr int kElements = 256;
  uint16_t d;
  uint8_t qs[64];
  uint16_t signs_and_scales[16];
};

// Group g of four elements: index in kGridIQ3_S of qs[g] and, above it, bit g % 8 of qh[g / 8]; one
// sign a bit. Nibble j of scales is s of elements 32*j .. 32*j + 31; scale = d * (2 s + 1).
struct BlockIQ3_S {
  static constexpr int kElements = 256;
  uint16_t d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];
};

// In the IQ1 blocks w = scale * (g + shift), g of -1, 0 or 1 from kGridIQ1, shift of +-1/8.

// 8 sub-blocks of 32. qh[s] holds three high bits of each of the four indices (the low eight are
// qs), then s of three bits, then the sign of the shift. scale = d * (2 s + 1).
struct BlockIQ1_S {
  static constexpr int kElements = 256;
  uint16_t d;
  uint8_t qs[32];
  uint16_t qh[8];
};

// Nibble g of qh is for group g of eight elements: three high bits of its index and the sign of its
// shift. Each of scales is four times three bits, s of sixteen elements each, and four bits of d as
// float16 (the lowest four in the first). scale = d * (2 s + 1).
struct BlockIQ1_M {
  static constexpr int kElements = 256;
  uint8_t qs[32];
  uint8_t qh[16];
  uint16_t scales[4];
};

// w[i] = d * (t[i] - 1), t a ternary digit. A byte b holds five digits as the fraction b / 256 =
// 0.t0 t1 t2 t3 t4 in base 3, rounded up: multiply by three, and the digit moves above the byte.
// Digit n of qs[l] is element 32*n + l (l < 32) or 160 + 16*n + l - 32 (l >= 32), digit n < 4 of
// qh[l] is element 240 + 4*n + l.
struct BlockTQ1_0 {
  static constexpr int kElements = 256;
  uint8_t qs[48];
  uint8_t qh[4];
  uint16_t d;
};

// w[i] = d * (q[i] - 1), q of two bits packed as in Q2_K.
struct BlockTQ2_0 {
  static constexpr int kElements = 256;
  uint8_t qs[64];
  uint16_t d;
};

// w[i] = 2^(e - 127) * E2M1(q[i]); nibbles as Q4_0. Source: OCP Microscaling Formats 1.0.
struct BlockMXFP4 {
  static constexpr int kElements = 32;
  uint8_t e;
  uint8_t qs[16];
};

// 4 sub-blocks of 16: w = E4M3(d[s]) * E2M1(q), d without its sign. Byte j of a sub-block's eight
// holds q[j] low, q[j+8] high. A file may add a factor for the whole tensor beside it.
struct BlockNVFP4 {
  static constexpr int kElements = 64;
  uint8_t d[4];
  uint8_t qs[32];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockQ8_K) == 292 && sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockIQ4_XS) == 136 && sizeof(BlockIQ2_XXS) == 66 &&
              sizeof(BlockIQ2_XS) == 74);
static_assert(sizeof(BlockIQ2_S) == 82 && sizeof(BlockIQ3_XXS) == 98 && sizeof(BlockIQ3_S) == 110);
static_assert(sizeof(BlockIQ1_S) == 50 && sizeof(BlockIQ1_M) == 56 && sizeof(BlockTQ1_0) == 54);
static_assert(sizeof(BlockTQ2_0) == 66 && sizeof(BlockMXFP4) == 17 && sizeof(BlockNVFP4) == 36);

// The sixteen values of IQ4_NL and IQ4_XS, denser near zero.
inline constexpr int8_t kValuesIQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the sixteen E2M1 values, which are integers so.
inline constexpr int8_t kValuesE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The eight (scale, min) pairs of six bits that Q4_K and Q5_K pack in 12 bytes: the first four have
// their six bits in bytes 0-3 and 4-7, the rest a nibble in bytes 8-11 and two bits above the
// first.
inline void unpack_scales_k4(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    mins[i] = packed[i + 4] & 63;
    scales[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | ((packed[i] >> 6) << 4));
    mins[i + 4] = static_cast<uint8_t>((packed[i + 8] >> 4) | ((packed[i + 4] >> 6) << 4));
  }
}

// The float16 d of IQ1_M, four bits of which lie above the three-bit scales of each word.
inline uint16_t unpack_d_iq1_m(const uint16_t scales[4]) {
  unsigned half = 0;
  for (int i = 0; i < 4; ++i) half |= static_cast<unsigned>(scales[i] >> 12) << (4 * i);
  return static_cast<uint16_t>(half);
}

// The sixteen six-bit scales of Q3_K, without the offset of 32: low nibbles in bytes 0-7 (low
// halves first), the two high bits in bytes 8-11.
inline void unpack_scales_k3(const uint8_t packed[12], uint8_t scales[16]) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
    scales[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

}  // namespace mlxr
