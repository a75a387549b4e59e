// Stored keys and values of one attention tile as vectors of float32, for every KvType: the numbers
// as they lie, exact, without their scales, which are the kernels' to apply (attention.h). So it
// does not matter whether a kernel widens in registers or reads a widened panel. Included once per
// target.

#if defined(MLXR_KV_LOAD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_KV_LOAD_INL_H
#undef MLXR_KV_LOAD_INL_H
#else
#define MLXR_KV_LOAD_INL_H
#endif

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/kernels/cpu/attention.h"
#include "core/kernels/cpu/float16-inl.h"
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
// At most 16 lanes: a block holds 16 or 32 tokens, a whole number of vectors.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
inline constexpr int64_t kTile = kAttentionTile;

// What a loaded 1 of a format without scales stands for: queries and results are multiplied by it,
// a power of two.
constexpr float kv_unit(KvType type) { return type == KvType::kF8E4M3 ? 256.0f : 1.0f; }

// One vector of consecutive stored numbers, in units of kv_unit. `high` chooses the nibble.
template <KvType kType>
HWY_INLINE V load_numbers(const uint8_t* at, bool high = false) {
  const D d;
  if constexpr (kType == KvType::kF32) {
    return hn::LoadU(d, reinterpret_cast<const float*>(at));
  } else if constexpr (kType == KvType::kF16) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return promote_f16(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at)));
  } else if constexpr (kType == KvType::kBF16) {
    const hn::Rebind<hwy::bfloat16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::bfloat16_t*>(at)));
  } else if constexpr (kType == KvType::kQ8_0) {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<int8_t, D> d8;
    return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const int8_t*>(at))));
  } else if constexpr (kType == KvType::kQ4_0) {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<uint8_t, D> d8;
    const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, at));
    const auto nibbles = hn::And(high ? hn::ShiftRight<4>(bytes) : bytes, hn::Set(di, 15));
    return hn::ConvertTo(d, hn::Sub(nibbles, hn::Set(di, 8)));
  } else {
    // E4M3's exponent and mantissa, moved into float16's, are 2^-8 times the value, subnormals
    // included. Sign extension puts the sign where it belongs, and into the exponent's first bit.
    const hn::Rebind<int8_t, D> d8;
    const hn::Rebind<int16_t, D> di16;
    const hn::Rebind<hwy::float16_t, D> d16;
    const auto bits = hn::PromoteTo(di16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(at)));
    // NaN, all ones, carries into that bit when a mantissa's last is added, and has it in float16.
    const auto top = hn::Set(di16, int16_t{0x4000});
    const auto number = hn::AndNot(top, hn::ShiftLeft<7>(bits));
    const auto carried = hn::Add(number, hn::Set(di16, int16_t{0x80}));
    return promote_f16(d, hn::BitCast(d16, hn::OrAnd(number, carried, top)));
  }
}

// The regions of one head in the blocks that a tile covers, [first, last) being the tokens of the
// tile that any query sees. Blocks outside of that may not exist: they repeat one that does.
struct TileRegions {
  const uint8_t* region[kTile / 16] = {};
  int64_t block_tokens = 0;
  int block_shift = 0;  // log2 of block_tokens
  int64_t blocks = 0;   // that make a tile
};

// One head's keys or values in every block, and which blocks make the sequence. Worked out once a
// task: a decode step's tiles are short.
struct HeadBlocks {
  HeadBlocks(const KvLayerRef& layer, bool keys, const AttentionTask& task)
      : first(keys ? layer.keys(0, task.kv_head) : layer.values(0, task.kv_head)),
        block_bytes(layer.region_offset(1, 0)),
        table(task.blocks),
        tokens(task.last_seen + 1),
        block_tokens(layer.block_tokens),
        block_shift(std::countr_zero(static_cast<uint32_t>(layer.block_tokens))) {}

  const uint8_t* first;  // in block 0 of the arena
  int64_t block_bytes;   // between blocks
  const int32_t* table;
  int64_t tokens;  // that the task sees
  int64_t block_tokens;
  int block_shift;  // log2 of block_tokens
};

HWY_INLINE TileRegions tile_regions(const HeadBlocks& head, int64_t tile, int64_t first,
                                    int64_t last) {
  TileRegions out;
  out.block_tokens = head.block_tokens;
  out.block_shift = head.block_shift;
  out.blocks = std::min(kTile >> head.block_shift, kTile / 16);
  const int64_t lowest = first >> head.block_shift, highest = (last - 1) >> head.block_shift;
  const int32_t* table = head.table + tile * out.blocks;
  for (int64_t i = 0; i < out.blocks; ++i) {
    out.region[i] = head.first + table[std::clamp(i, lowest, highest)] * head.block_bytes;
  }
  return out;
}

// Those of the tile after `tile`; none behind the last.
HWY_INLINE TileRegions next_regions(const HeadBlocks& head, int64_t tile) {
  const int64_t tokens = head.tokens - (tile + 1) * kTile;
  if (tokens <= 0) return {};
  return tile_regions(head, tile + 1, 0, std::min(kTile, tokens));
}

// What the tile after this one will read: fetched bit by bit while this one is computed. Blocks lie
// apart, so the processor's own prefetcher stops at the end of each. To the second-level cache: the
// first has too few buffers for lines under way (decode of 16384 tokens in DRAM, dim 64, Zen 4: 7
// GB/s without, 10.6 to the first level, 15.2 to the second).
class NextTile {
 public:
  static constexpr int64_t kRows = 8;  // of a matrix, between two calls

  HWY_INLINE NextTile(const TileRegions& next, int64_t region_bytes, int64_t rows)
      : regions_(next), step_bytes_((region_bytes / rows * kRows + 63) / 64 * 64) {}
  HWY_INLINE void prefetch(int64_t row) const {
    const int64_t begin = row / kRows * step_bytes_;
    for (int64_t at = begin; at < begin + step_bytes_; at += 64) {
      for (int64_t b = 0; b < regions_.blocks; ++b) {
        __builtin_prefetch(regions_.region[b] + at, 0, 2);
      }
    }
  }

 private:
  TileRegions regions_;
  int64_t step_bytes_;
};

// The scales of a tile as [groups, tile] float32.
HWY_INLINE void widen_scales(const TileRegions& tile, KvType type, int64_t dim, float* to) {
  const int64_t skip = kv_number_bytes(type, dim) * tile.block_tokens;
  for (int64_t b = 0; b < tile.blocks; ++b) {
    const uint8_t* from = tile.region[b] + skip;
    for (int64_t g = 0; g < kv_groups(dim); ++g) {
      float* row = to + g * kTile + b * tile.block_tokens;
      for (int64_t i = 0; i < tile.block_tokens; i += kLanes, from += kLanes * 2) {
        hn::Store(load_numbers<KvType::kF16>(from), D(), row + i);
      }
    }
  }
}

// Keys as a matrix [head_dim, tile]. load(k, column) is dimension k of the column's kLanes tokens,
// to be multiplied by scale(group of k, column).
template <KvType kType>
class StoredKeys {
 public:
  // `scales` has room for [groups, tile] floats.
  HWY_INLINE StoredKeys(const TileRegions& tile, const TileRegions& next, int64_t dim,
                        float* scales)
      : next_(next, kv_region_bytes(kType, dim, tile.block_tokens), dim),
        row_bytes_(tile.block_tokens * kv_number_bytes(kType, kKvGroup) / kKvGroup),
        scales_(scales) {
    if constexpr (kType == KvType::kQ4_0) row_bytes_ = tile.block_tokens;
    for (int64_t c = 0; c < kTile / kLanes; ++c) {
      const int64_t token = c * kLanes;
      const int64_t in_block = token & (tile.block_tokens - 1);
      columns_[c] =
          tile.region[token >> tile.block_shift] + in_block * (row_bytes_ / tile.block_tokens);
    }
    if constexpr (kHasScales) widen_scales(tile, kType, dim, scales);
  }

  static constexpr bool kHasScales = kv_has_scales(kType);
  static constexpr int64_t kPrefetchRows = NextTile::kRows;
  HWY_INLINE void prefetch(int64_t k) const { next_.prefetch(k); }

  HWY_INLINE V load(int64_t k, int64_t column) const {
    if constexpr (kType == KvType::kQ4_0) {
      const int64_t row = k / kKvGroup * (kKvGroup / 2) + k % (kKvGroup / 2);
      return load_numbers<kType>(columns_[column] + row * row_bytes_, (k & (kKvGroup / 2)) != 0);
    } else {
      return load_numbers<kType>(columns_[column] + k * row_bytes_);
    }
  }
  HWY_INLINE V scale(int64_t group, int64_t column) const {
    return hn::Load(D(), scales_ + group * kTile + column * kLanes);
  }

 private:
  const uint8_t* columns_[kTile / kLanes];
  NextTile next_;
  int64_t row_bytes_;
  const float* scales_;
};

// Values as a matrix [tile, head_dim]. load(k, column) is kLanes dimensions of token k, to be
// multiplied by the scale of their group and token: scales() is [groups, tile].
template <KvType kType>
class StoredValues {
 public:
  // `scales` has room for [groups, tile] floats.
  HWY_INLINE StoredValues(const TileRegions& tile, const TileRegions& next, int64_t dim,
                          float* scales)
      : tile_(tile),
        next_(next, kv_region_bytes(kType, dim, tile.block_tokens), kTile),
        token_bytes_(kv_number_bytes(kType, dim)),
        scales_(scales) {
    if constexpr (kHasScales) widen_scales(tile, kType, dim, scales);
  }

  static constexpr bool kHasScales = kv_has_scales(kType);
  static constexpr int64_t kPrefetchRows = NextTile::kRows;
  HWY_INLINE void prefetch(int64_t k) const { next_.prefetch(k); }
  HWY_INLINE const float* scales() const { return scales_; }

  HWY_INLINE V load(int64_t k, int64_t column) const {
    return load_numbers<kType>(token(k) + offset(column), high(column));
  }

  // Like load, for a column that head_dim ends in: the lanes beyond are 0.
  HWY_INLINE V load_part(int64_t k, int64_t column, int64_t dim) const {
    if constexpr (kType == KvType::kQ4_0) {
      return load(k, column);  // padded in the arena
    } else {
      uint8_t bytes[kLanes * 4] = {};
      const int64_t left = kv_number_bytes(kType, dim - column * kLanes);
      std::memcpy(bytes, token(k) + offset(column), static_cast<size_t>(left));
      return load_numbers<kType>(bytes);
    }
  }

 private:
  HWY_INLINE const uint8_t* token(int64_t k) const {
    return tile_.region[k >> tile_.block_shift] + (k & (tile_.block_tokens - 1)) * token_bytes_;
  }
  static HWY_INLINE int64_t offset(int64_t column) {
    const int64_t at = column * kLanes;
    if constexpr (kType == KvType::kQ4_0) {
      return at / kKvGroup * (kKvGroup / 2) + at % (kKvGroup / 2);
    } else {
      return at * kv_number_bytes(kType, kKvGroup) / kKvGroup;
    }
  }
  static HWY_INLINE bool high(int64_t column) {
    return kType == KvType::kQ4_0 && ((column * kLanes) & (kKvGroup / 2)) != 0;
  }

  TileRegions tile_;
  NextTile next_;
  int64_t token_bytes_;
  const float* scales_;
};

// A widened matrix in scratch, read as the stored ones are.
template <bool kScaled>
struct Panel {
  const float* data;
  int64_t stride;
  const float* group_scales;  // [groups, tile]
  static constexpr bool kHasScales = kScaled;
  static constexpr int64_t kPrefetchRows = 0;
  HWY_INLINE V load(int64_t k, int64_t column) const {
    return hn::Load(D(), data + k * stride + column * kLanes);
  }
  HWY_INLINE V scale(int64_t group, int64_t column) const {
    return hn::Load(D(), group_scales + group * kTile + column * kLanes);
  }
  HWY_INLINE const float* scales() const { return group_scales; }
};

// Columns [first, last) of keys to [head_dim, tile].
template <KvType kType>
HWY_NOINLINE void widen_keys(const StoredKeys<kType>& keys, int64_t dim, int64_t first,
                             int64_t last, float* to) {
  for (int64_t k = 0; k < dim; ++k) {
    if (k % NextTile::kRows == 0) keys.prefetch(k);
    for (int64_t c = first; c < last; ++c) {
      hn::Store(keys.load(k, c), D(), to + k * kTile + c * kLanes);
    }
  }
}

// Tokens [first, last) of values to [tile, stride], stride being head_dim in whole vectors.
template <KvType kType>
HWY_NOINLINE void widen_values(const StoredValues<kType>& values, int64_t dim, int64_t first,
                               int64_t last, int64_t stride, float* to) {
  const int64_t whole = dim / kLanes;
  for (int64_t t = first; t < last; ++t) {
    if (t % NextTile::kRows == 0) values.prefetch(t);
    for (int64_t c = 0; c < whole; ++c) {
      hn::Store(values.load(t, c), D(), to + t * stride + c * kLanes);
    }
    if (whole * kLanes < dim) {
      hn::Store(values.load_part(t, whole, dim), D(), to + t * stride + whole * kLanes);
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
