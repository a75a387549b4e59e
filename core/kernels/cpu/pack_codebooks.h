// Takes the rows of table formats apart for the interleaved layout (packed_layout.h): an index of
// one of up to sixteen values for each weight (the tables of packed_tables-inl.h), and a byte for
// each sub-block's scale. Plain code: looking up groups in a codebook does not vectorise.
#pragma once

#include <cstdint>

#include "core/formats/quant_format.h"

namespace mlxr::cpu {

// Indices of elements 32j .. 32j + 31 of a block of an IQ1, IQ2 or IQ3 format.
void codebook_indices(QuantFormat format, const uint8_t* block, int j, uint8_t* q);

// The scales of the sub-blocks of an IQ1, IQ2, IQ3 or IQ4_XS block, or of an NVFP4 block, in the
// units of its kernel; returns how many.
int scale_bytes(QuantFormat format, const uint8_t* block, uint8_t* bytes);

// An IQ1_M block's float16 scale, which its file keeps in four parts.
uint16_t scale_iq1_m(const uint8_t* block);

// The base-3 digits of elements 32j .. 32j + 31 of a TQ1_0 block.
void ternary_digits(const uint8_t* block, int j, uint8_t* q);

}  // namespace mlxr::cpu
