// The interleaved ("packed") layout of a quantised matrix: sixteen rows side by side, so that a
// vector lane is a row and a product needs no horizontal sum. It holds the values of the file's
// format, rearranged: nothing is rounded again. It is as large as the rows were (padded to sixteen
// rows and 64 bytes), but for formats whose rows are indices of a codebook of groups: a kernel
// cannot look those up sixteen rows at a time, so every weight becomes an index of its own into at
// most sixteen values, and every sub-block's scale a byte. Bits a weight:
//   IQ1_S 1.56 -> 3.31    IQ2_XXS 2.06 -> 3.31    IQ3_XXS 3.06 -> 4.31    TQ1_0 1.69 -> 2.06
//   IQ1_M 1.75 -> 3.56    IQ2_XS  2.31 -> 3.56    IQ3_S   3.44 -> 4.31    Q8_K  9.13 -> 8.13
//                         IQ2_S   2.56 -> 3.56    IQ4_XS  4.25 -> 4.31
//
// A matrix is ceil(rows / 16) groups; rows past the end are zeros. A group is one stream that a
// kernel reads from end to end: a second one beside it, for the scales, halved the speed of decode
// (14 instead of 29 GB/s a thread on a Zen 4 machine). It is
//   [batches][head of each span][prefix and quants of each span]
// where a span is the columns of one block of the format (or of one MLX group), and a batch is as
// many spans as fill a head of 64 bytes (the last batch of a row may have fewer).
//   head     the float scales of 16 rows
//   prefix   the integer scales of a block, a 32-bit word of each of 16 rows at a time
//   quants   [span / 32][planes], a chunk of 32 columns
// A chunk is eight words of four columns. Word g of a row is q[4g .. 4g + 3], a byte each. Their
// bits are split in planes, every plane made of vectors of 64 bytes (16 rows x 4 bytes):
//   8 bits   vector g holds word g
//   nibbles  vector v holds word 2v in its low and word 2v + 1 in its high halves   (4, 5, 6 bits)
//   crumbs   vector v holds words 4v .. 4v + 3, two bits each   (2 and 3 bits; top of 6 bits)
//   bits     one vector, word g at bit g   (top of 3 and 5 bits)
// and stand in this order: nibbles, crumbs, bits.
#pragma once

#include <cstdint>

#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr::cpu {

inline constexpr int64_t kGroupRows = 16;

// With more columns than this, every instruction set unpacks a packed matrix to panels; with fewer,
// some take it as it lies.
inline constexpr int64_t kMostDotColumns = 32;

struct PackedLayout {
  int32_t bits = 0;    // of a q; 0: the format has no packed form
  int32_t span = 0;    // columns
  int32_t head = 0;    // bytes a span of 16 rows
  int32_t prefix = 0;  // bytes a span of 16 rows

  constexpr int64_t chunk_bytes() const { return 64 * int64_t{bits}; }
  constexpr int64_t body_bytes() const { return prefix + span / 32 * chunk_bytes(); }
  constexpr int64_t batch_spans() const { return head > 0 && head < 64 ? 64 / head : 1; }
  constexpr int64_t batch_head_bytes() const { return batch_spans() * head; }
  constexpr int64_t group_bytes(int64_t cols) const {
    const int64_t spans = span > 0 ? cols / span : 0;
    const int64_t batches = (spans + batch_spans() - 1) / batch_spans();
    return batches * batch_head_bytes() + spans * body_bytes();
  }
};

// The layout of a block format.
constexpr PackedLayout packed_layout(QuantFormat format) {
  switch (format) {
    case QuantFormat::kQ4_0:
      return {4, 32, 32, 0};
    case QuantFormat::kQ4_1:
      return {4, 32, 64, 0};
    case QuantFormat::kQ5_0:
      return {5, 32, 32, 0};
    case QuantFormat::kQ5_1:
      return {5, 32, 64, 0};
    case QuantFormat::kQ8_0:
      return {8, 32, 32, 0};
    case QuantFormat::kQ2_K:
      return {2, 256, 64, 256};
    case QuantFormat::kQ3_K:
      return {3, 256, 32, 192};
    case QuantFormat::kQ4_K:
      return {4, 256, 64, 192};
    case QuantFormat::kQ5_K:
      return {5, 256, 64, 192};
    case QuantFormat::kQ6_K:
      return {6, 256, 32, 256};
    case QuantFormat::kQ8_K:
      return {8, 256, 64, 0};
    case QuantFormat::kIQ1_S:
    case QuantFormat::kIQ2_XXS:
      return {3, 256, 32, 128};
    case QuantFormat::kIQ1_M:
    case QuantFormat::kIQ2_XS:
    case QuantFormat::kIQ2_S:
      return {3, 256, 32, 256};
    case QuantFormat::kIQ3_XXS:
    case QuantFormat::kIQ3_S:
    case QuantFormat::kIQ4_XS:
      return {4, 256, 32, 128};
    case QuantFormat::kIQ4_NL:
      return {4, 32, 32, 0};
    case QuantFormat::kTQ1_0:
    case QuantFormat::kTQ2_0:
      return {2, 256, 32, 0};
    case QuantFormat::kMXFP4:
      return {4, 32, 16, 0};
    case QuantFormat::kNVFP4:
      return {4, 64, 0, 64};
    default:
      return {};
  }
}

// The layout of any matrix, MLX's included. A packed MatrixRef answers as its rows did.
inline PackedLayout packed_layout(const MatrixRef& w) {
  if (w.format != QuantFormat::kMlxAffine) return packed_layout(w.format);
  return {w.bits, w.group, w.scale_format == QuantFormat::kF32 ? 128 : 64, 0};
}

// True when this machine has kernels for the packed form of `w`.
bool has_packed_form(const MatrixRef& w);

// True when that is worth having, by the table of what was measured (pack_gains.h).
bool can_pack(const MatrixRef& w);

// Two groups are a tile, kRowTile rows; a tile of floats is [cols][32 rows]. Tiles of one matrix
// follow each other, or alternate with those of another that is multiplied in the same pass (gate
// and up): MatrixRef::tile_stride.
inline int64_t packed_tiles(const MatrixRef& w) {
  return (w.rows + 2 * kGroupRows - 1) / (2 * kGroupRows);
}
inline int64_t packed_tile_bytes(const MatrixRef& w) {
  if (is_float(w.format)) return 2 * kGroupRows * row_bytes(w.format, w.cols);
  return 2 * packed_layout(w).group_bytes(w.cols);
}
// Bytes of the packed form of `w`, its tiles one after the other.
inline int64_t packed_bytes(const MatrixRef& w) { return packed_tiles(w) * packed_tile_bytes(w); }

// Packs tiles [begin, end) of the rows that `w` points at; tile t goes to out + t * tile_stride,
// all 64 byte aligned.
void pack_tiles(const MatrixRef& w, int64_t begin, int64_t end, uint8_t* out, int64_t tile_stride);

}  // namespace mlxr::cpu
