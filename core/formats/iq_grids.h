// The codebooks of the IQ formats: which groups of eight (IQ1, IQ2) or four (IQ3) magnitudes an
// index stands for. They are data that files depend on, the same in every reader of GGUF.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace mlxr {

// Byte j of an entry is element j of the group.
extern const std::array<uint64_t, 256> kGridIQ2_XXS;  // magnitudes 8, 25, 43
extern const std::array<uint64_t, 512> kGridIQ2_XS;
extern const std::array<uint64_t, 1024> kGridIQ2_S;
extern const std::array<uint32_t, 256> kGridIQ3_XXS;  // magnitudes 4, 12, 20 .. 52, 62
extern const std::array<uint32_t, 512> kGridIQ3_S;    // magnitudes 1, 3, 5 .. 15
extern const std::array<uint64_t, 2048> kGridIQ1;     // int8 values -1, 0, 1

// Eight signs (bit j set: element j is negative) from the seven that a file stores: the number of
// negative elements is even.
constexpr uint8_t signs_of_even_parity(uint32_t seven_bits) {
  return static_cast<uint8_t>(seven_bits | (std::popcount(seven_bits) & 1u) << 7);
}

}  // namespace mlxr
