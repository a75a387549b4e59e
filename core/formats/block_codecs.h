// The scalar decoders and encoders that the format table points to, by family of formats.
// Decoders multiply in the order of the formats' definition in ggml, so that results agree with it
// to the bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace mlxr {

using DecodeBlocks = void(const std::byte* blocks, float* out, int64_t n);
using EncodeBlocks = void(const float* values, std::byte* blocks, int64_t n);

// codec_float.cpp
DecodeBlocks decode_f32, decode_f16, decode_bf16, decode_f8_e4m3, decode_f8_e5m2;
DecodeBlocks decode_mxfp4, decode_nvfp4;
EncodeBlocks encode_f32, encode_f16, encode_bf16;

// decode_legacy.cpp: one scale for 32 elements
DecodeBlocks decode_q4_0, decode_q4_1, decode_q5_0, decode_q5_1, decode_q8_0;

// decode_k.cpp: blocks of 256 with scales of their sub-blocks; ternary blocks
DecodeBlocks decode_q2_k, decode_q3_k, decode_q4_k, decode_q5_k, decode_q6_k, decode_q8_k;
DecodeBlocks decode_tq1_0, decode_tq2_0;

// decode_iq.cpp: values or groups of values from codebooks
DecodeBlocks decode_iq4_nl, decode_iq4_xs;
DecodeBlocks decode_iq2_xxs, decode_iq2_xs, decode_iq2_s, decode_iq3_xxs, decode_iq3_s;
DecodeBlocks decode_iq1_s, decode_iq1_m;

// encode_legacy.cpp
EncodeBlocks encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1, encode_q8_0;
EncodeBlocks encode_iq4_nl, encode_mxfp4;

// encode_k.cpp
EncodeBlocks encode_q2_k, encode_q3_k, encode_q4_k, encode_q5_k, encode_q6_k, encode_iq4_xs;

// Calls decode(block, out) for each block of `n` elements. Blocks may lie unaligned in a file.
template <class Block, class Decode>
void each_block(const std::byte* bytes, float* out, int64_t n, Decode decode) {
  for (int64_t i = 0; i < n; i += Block::kElements, bytes += sizeof(Block)) {
    Block block;
    std::memcpy(&block, bytes, sizeof(Block));
    decode(block, out + i);
  }
}

// Calls encode(elements values) for each block of `n` elements and stores the block it returns.
template <size_t elements, class Encode>
void encode_each_block(const float* values, std::byte* bytes, int64_t n, Encode encode) {
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(elements)) {
    const auto block = encode(std::span<const float, elements>(values + i, elements));
    std::memcpy(bytes, &block, sizeof(block));
    bytes += sizeof(block);
  }
}

}  // namespace mlxr
