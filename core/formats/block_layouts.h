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

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210);

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
