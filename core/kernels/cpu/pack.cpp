// From rows as they lie in a file to the interleaved layout of packed_layout.h. Written as plain
// loops over sixteen rows, which the compiler turns into each target's vectors.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/formats/block_layouts.h"
#include "core/kernels/cpu/pack_codebooks.h"
#include "core/kernels/cpu/pack_gains.h"
#include "core/kernels/cpu/packed_layout.h"
#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/pack.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

constexpr int kRows = static_cast<int>(kGroupRows);

// words[g][row]: q[4g .. 4g + 3] of each row's chunk of 32 columns.
using ChunkWords = uint32_t[8][kRows];

void put_planes(const ChunkWords& w, int bits, uint8_t* out) {
  uint32_t vector[kRows];
  const auto store = [&] {
    std::memcpy(out, vector, sizeof(vector));
    out += sizeof(vector);
  };
  if (bits == 8) {
    std::memcpy(out, w, sizeof(ChunkWords));
    return;
  }
  if (bits >= 4) {
    for (int v = 0; v < 4; ++v) {
      for (int r = 0; r < kRows; ++r) {
        vector[r] = (w[2 * v][r] & 0x0f0f0f0fu) | ((w[2 * v + 1][r] & 0x0f0f0f0fu) << 4);
      }
      store();
    }
  }
  if (bits == 2 || bits == 3 || bits == 6) {
    const int low = bits == 6 ? 4 : 0;
    for (int v = 0; v < 2; ++v) {
      for (int r = 0; r < kRows; ++r) {
        vector[r] = 0;
        for (int i = 0; i < 4; ++i) {
          vector[r] |= ((w[4 * v + i][r] >> low) & 0x03030303u) << (2 * i);
        }
      }
      store();
    }
  }
  if (bits == 3 || bits == 5) {
    for (int r = 0; r < kRows; ++r) {
      vector[r] = 0;
      for (int g = 0; g < 8; ++g) vector[r] |= ((w[g][r] >> (bits - 1)) & 0x01010101u) << g;
    }
    store();
  }
}

// ---- q of elements 32j .. 32j + 31 of a block, a byte each ----

template <int half>  // low nibbles, then high ones
void nibbles_of(const uint8_t* qs, uint8_t* q) {
  for (int i = 0; i < half; ++i) q[i] = qs[i] & 15;
  for (int i = 0; i < half; ++i) q[i + half] = qs[i] >> 4;
}
void add_bits_of_4(const uint8_t* qh, uint8_t* q) {
  for (int i = 0; i < 32; ++i) {
    q[i] = static_cast<uint8_t>(q[i] | (((qh[i / 8] >> (i % 8)) & 1) << 4));
  }
}
void nibble_plane(const uint8_t* qs, int j, uint8_t* q) {
  const uint8_t* from = qs + 32 * (j / 2);
  const int shift = 4 * (j % 2);
  for (int i = 0; i < 32; ++i) q[i] = (from[i] >> shift) & 15;
}
void crumb_plane(const uint8_t* qs, int j, uint8_t* q) {
  const uint8_t* from = qs + 32 * (j / 4);
  const int shift = 2 * (j % 4);
  for (int i = 0; i < 32; ++i) q[i] = (from[i] >> shift) & 3;
}
void add_bit_plane(const uint8_t* plane, int j, int value, uint8_t* q) {
  for (int i = 0; i < 32; ++i) {
    q[i] = static_cast<uint8_t>(q[i] | (((plane[i] >> j) & 1) * value));
  }
}
void affine_bits(const uint8_t* packed, int bits, uint8_t* q) {
  const uint32_t mask = (1u << bits) - 1;
  for (int eight = 0; eight < 4; ++eight) {  // eight elements are `bits` whole bytes
    uint64_t window = 0;
    std::memcpy(&window, packed + eight * bits, static_cast<size_t>(bits));
    for (int i = 0; i < 8; ++i) {
      q[8 * eight + i] = static_cast<uint8_t>((window >> (i * bits)) & mask);
    }
  }
}

void chunk_q(const MatrixRef& w, const uint8_t* b, int j, uint8_t* q) {
  switch (w.format) {
    case QuantFormat::kQ4_0:
      return nibbles_of<16>(b + offsetof(BlockQ4_0, qs), q);
    case QuantFormat::kQ4_1:
      return nibbles_of<16>(b + offsetof(BlockQ4_1, qs), q);
    case QuantFormat::kQ5_0:
      nibbles_of<16>(b + offsetof(BlockQ5_0, qs), q);
      return add_bits_of_4(b + offsetof(BlockQ5_0, qh), q);
    case QuantFormat::kQ5_1:
      nibbles_of<16>(b + offsetof(BlockQ5_1, qs), q);
      return add_bits_of_4(b + offsetof(BlockQ5_1, qh), q);
    case QuantFormat::kQ8_0:
      std::memcpy(q, b + offsetof(BlockQ8_0, qs), 32);
      return;
    case QuantFormat::kQ2_K:
      return crumb_plane(b + offsetof(BlockQ2_K, qs), j, q);
    case QuantFormat::kQ3_K:
      crumb_plane(b + offsetof(BlockQ3_K, qs), j, q);
      return add_bit_plane(b + offsetof(BlockQ3_K, hmask), j, 4, q);
    case QuantFormat::kQ4_K:
      return nibble_plane(b + offsetof(BlockQ4_K, qs), j, q);
    case QuantFormat::kQ5_K:
      nibble_plane(b + offsetof(BlockQ5_K, qs), j, q);
      return add_bit_plane(b + offsetof(BlockQ5_K, qh), j, 16, q);
    case QuantFormat::kQ6_K: {
      const int h = j / 4, part = j % 4;
      const uint8_t* low = b + offsetof(BlockQ6_K, ql) + 64 * h + 32 * (part % 2);
      const uint8_t* high = b + offsetof(BlockQ6_K, qh) + 32 * h;
      const int shift = 4 * (part / 2);
      for (int i = 0; i < 32; ++i) {
        q[i] =
            static_cast<uint8_t>(((low[i] >> shift) & 15) | (((high[i] >> (2 * part)) & 3) << 4));
      }
      return;
    }
    case QuantFormat::kQ8_K:
      std::memcpy(q, b + offsetof(BlockQ8_K, qs) + 32 * j, 32);
      return;
    case QuantFormat::kIQ4_NL:
      return nibbles_of<16>(b + offsetof(BlockIQ4_NL, qs), q);
    case QuantFormat::kIQ4_XS:
      return nibbles_of<16>(b + offsetof(BlockIQ4_XS, qs) + 16 * j, q);
    case QuantFormat::kMXFP4:
      return nibbles_of<16>(b + offsetof(BlockMXFP4, qs), q);
    case QuantFormat::kNVFP4:
      nibbles_of<8>(b + offsetof(BlockNVFP4, qs) + 16 * j, q);
      return nibbles_of<8>(b + offsetof(BlockNVFP4, qs) + 16 * j + 8, q + 16);
    case QuantFormat::kTQ1_0:
      return ternary_digits(b, j, q);
    case QuantFormat::kTQ2_0:
      return crumb_plane(b + offsetof(BlockTQ2_0, qs), j, q);
    case QuantFormat::kMlxAffine:  // b points at the span's first byte
      return affine_bits(b + j * 4 * w.bits, w.bits, q);
    default:
      return codebook_indices(w.format, b, j, q);
  }
}

// ---- scales ----

// One two-byte field of 16 rows.
void put_halves(const uint8_t* const* rows, int64_t offset, uint8_t* out) {
  for (int r = 0; r < kRows; ++r) {
    if (rows[r] != nullptr) std::memcpy(out + 2 * r, rows[r] + offset, 2);
  }
}
// `count` four-byte words of 16 rows.
void put_words(const uint8_t* const* rows, int64_t offset, int count, uint8_t* out) {
  for (int i = 0; i < count; ++i) {
    for (int r = 0; r < kRows; ++r) {
      if (rows[r] != nullptr) std::memcpy(out + 64 * i + 4 * r, rows[r] + offset + 4 * i, 4);
    }
  }
}

// The scale bytes of 16 rows, as words.
void put_scale_bytes(QuantFormat format, const uint8_t* const* rows, uint8_t* out) {
  for (int r = 0; r < kRows; ++r) {
    if (rows[r] == nullptr) continue;
    uint8_t bytes[16];
    const int count = scale_bytes(format, rows[r], bytes);
    for (int i = 0; i < count; i += 4) std::memcpy(out + 16 * i + 4 * r, bytes + i, 4);
  }
}

// `rows` point at the span's block; head and prefix are where its scales go.
void put_scales(QuantFormat format, const uint8_t* const* rows, uint8_t* head, uint8_t* prefix) {
  switch (format) {
    case QuantFormat::kQ4_0:
    case QuantFormat::kQ5_0:
    case QuantFormat::kQ8_0:
      return put_halves(rows, 0, head);
    case QuantFormat::kQ4_1:
    case QuantFormat::kQ5_1:
      put_halves(rows, 0, head);
      return put_halves(rows, 2, head + 32);
    case QuantFormat::kQ2_K:
      put_halves(rows, offsetof(BlockQ2_K, d), head);
      put_halves(rows, offsetof(BlockQ2_K, dmin), head + 32);
      return put_words(rows, offsetof(BlockQ2_K, scales), 4, prefix);
    case QuantFormat::kQ3_K:
      put_halves(rows, offsetof(BlockQ3_K, d), head);
      return put_words(rows, offsetof(BlockQ3_K, scales), 3, prefix);
    case QuantFormat::kQ4_K:
    case QuantFormat::kQ5_K:
      put_halves(rows, offsetof(BlockQ4_K, d), head);
      put_halves(rows, offsetof(BlockQ4_K, dmin), head + 32);
      return put_words(rows, offsetof(BlockQ4_K, scales), 3, prefix);
    case QuantFormat::kQ6_K:
      put_halves(rows, offsetof(BlockQ6_K, d), head);
      return put_words(rows, offsetof(BlockQ6_K, scales), 4, prefix);
    case QuantFormat::kQ8_K:
      return put_words(rows, offsetof(BlockQ8_K, d), 1, head);
    case QuantFormat::kIQ4_NL:
      return put_halves(rows, offsetof(BlockIQ4_NL, d), head);
    case QuantFormat::kTQ1_0:
      return put_halves(rows, offsetof(BlockTQ1_0, d), head);
    case QuantFormat::kTQ2_0:
      return put_halves(rows, offsetof(BlockTQ2_0, d), head);
    case QuantFormat::kMXFP4:
      for (int r = 0; r < kRows; ++r) head[r] = rows[r] != nullptr ? *rows[r] : uint8_t{0};
      return;
    case QuantFormat::kNVFP4:
      return put_scale_bytes(format, rows, prefix);
    case QuantFormat::kIQ1_M:
      for (int r = 0; r < kRows; ++r) {
        const uint16_t d = rows[r] != nullptr ? scale_iq1_m(rows[r]) : uint16_t{0};
        std::memcpy(head + 2 * r, &d, 2);
      }
      return put_scale_bytes(format, rows, prefix);
    default:  // the other IQ formats begin with d
      put_halves(rows, 0, head);
      return put_scale_bytes(format, rows, prefix);
  }
}

// MLX keeps its scales apart: value `span` of each row's array.
void put_affine_scales(const MatrixRef& w, int64_t row, int64_t span, uint8_t* head) {
  const int64_t width = w.scale_format == QuantFormat::kF32 ? 4 : 2;
  const int64_t stride = w.cols / w.group * width;
  for (int64_t r = 0; r < std::min<int64_t>(kGroupRows, w.rows - row); ++r) {
    const int64_t at = (row + r) * stride + span * width;
    std::memcpy(head + r * width, w.scales + at, static_cast<size_t>(width));
    std::memcpy(head + (kGroupRows + r) * width, w.biases + at, static_cast<size_t>(width));
  }
}

void pack_group_target(const MatrixRef& w, int64_t group, uint8_t* out) {
  const PackedLayout layout = packed_layout(w);
  const bool affine = w.format == QuantFormat::kMlxAffine;
  const int64_t block_bytes = affine ? w.group * w.bits / 8 : row_bytes(w.format, layout.span);
  const int64_t spans = w.cols / std::max(layout.span, 1);
  const int64_t row = group * kGroupRows;
  uint8_t* heads = nullptr;
  uint8_t* body = out;
  for (int64_t s = 0; s < spans; ++s, body += layout.body_bytes()) {
    if (s % layout.batch_spans() == 0) {
      heads = body;
      body += layout.batch_head_bytes();
      std::memset(heads, 0, static_cast<size_t>(layout.batch_head_bytes()));
    }
    const uint8_t* blocks[kRows];
    for (int64_t r = 0; r < kGroupRows; ++r) {
      blocks[r] = row + r < w.rows ? w.data + (row + r) * w.row_stride + s * block_bytes : nullptr;
    }
    uint8_t* head = heads + s % layout.batch_spans() * layout.head;
    std::memset(body, 0, static_cast<size_t>(layout.prefix));
    if (affine) {
      put_affine_scales(w, row, s, head);
    } else {
      put_scales(w.format, blocks, head, body);
    }
    for (int j = 0; j < layout.span / 32; ++j) {
      ChunkWords words;
      for (int r = 0; r < kRows; ++r) {
        alignas(64) uint8_t q[32] = {};
        if (blocks[r] != nullptr) chunk_q(w, blocks[r], j, q);
        for (int g = 0; g < 8; ++g) std::memcpy(&words[g][r], q + 4 * g, 4);
      }
      put_planes(words, layout.bits, body + layout.prefix + j * layout.chunk_bytes());
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(pack_group_target);

namespace {

// 32 rows to [cols][32 rows], a cache line of every row at a time; missing rows are zeros.
template <class T>
void pack_float_tile(const MatrixRef& w, int64_t tile, uint8_t* out) {
  constexpr int64_t kTileRows = 2 * kGroupRows, kLine = 64 / sizeof(T);
  const int64_t first = tile * kTileRows;
  for (int64_t k = 0; k < w.cols; k += kLine) {
    const int64_t count = std::min(kLine, w.cols - k);
    T lines[kTileRows][kLine] = {};
    for (int64_t r = 0; r < kTileRows && first + r < w.rows; ++r) {
      std::memcpy(lines[r], w.data + (first + r) * w.row_stride + k * sizeof(T),
                  static_cast<size_t>(count) * sizeof(T));
    }
    for (int64_t i = 0; i < count; ++i, out += kTileRows * sizeof(T)) {
      T column[kTileRows];
      for (int64_t r = 0; r < kTileRows; ++r) column[r] = lines[r][i];
      std::memcpy(out, column, sizeof(column));
    }
  }
}

}  // namespace

bool has_packed_form(const MatrixRef& w) {
  if (simd_level() == "generic") return false;
  const PackedLayout layout = packed_layout(w);
  return is_float(w.format) || (layout.bits != 0 && w.cols % layout.span == 0);
}

bool can_pack(const MatrixRef& w) { return has_packed_form(w) && packing_pays(w, simd_level()); }

void pack_tiles(const MatrixRef& w, int64_t begin, int64_t end, uint8_t* out, int64_t tile_stride) {
  select_simd_level();
  if (is_float(w.format)) {
    for (int64_t tile = begin; tile < end; ++tile) {
      if (w.format == QuantFormat::kF32) {
        pack_float_tile<uint32_t>(w, tile, out + tile * tile_stride);
      } else {
        pack_float_tile<uint16_t>(w, tile, out + tile * tile_stride);
      }
    }
    return;
  }
  const int64_t group_bytes = packed_layout(w).group_bytes(w.cols);
  for (int64_t group = 2 * begin; group < 2 * end && group * kGroupRows < w.rows; ++group) {
    uint8_t* to = out + group / 2 * tile_stride + group % 2 * group_bytes;
    HWY_DYNAMIC_DISPATCH(pack_group_target)(w, group, to);
  }
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
