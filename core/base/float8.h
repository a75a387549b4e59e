// Scalar conversions from the 8-bit formats that weights and their scales are stored in.
// Sources: OCP 8-bit Floating Point Specification 1.0; OCP Microscaling Formats 1.0 (E8M0).
#pragma once

#include <bit>
#include <cstdint>

#include "core/base/float16.h"

namespace mlxr {

// Four exponent bits (bias 7), three mantissa bits; no infinity, NaN only where all seven are set.
inline float f8_e4m3_to_f32(uint8_t v) {
  const uint32_t sign = static_cast<uint32_t>(v & 0x80u) << 24;
  const uint32_t rest = v & 0x7fu;
  if (rest == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (rest >= 0x08u) return std::bit_cast<float>(sign | ((rest << 20) + 0x3c000000u));
  const float magnitude = static_cast<float>(rest) * 0x1p-9f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

// Five exponent bits, two mantissa bits: the upper byte of a float16.
inline float f8_e5m2_to_f32(uint8_t v) { return f16_to_f32(static_cast<uint16_t>(v << 8)); }

// Half of the power of two 2^(e - 127) that an E8M0 scale is. GGUF reads e = 255, NaN by the OCP
// specification, as a power too.
inline float half_of_f8_e8m0(uint8_t e) {
  const uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1u) << 23;
  return std::bit_cast<float>(bits);
}

}  // namespace mlxr
