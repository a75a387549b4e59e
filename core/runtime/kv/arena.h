// The memory that KV blocks live in: one allocation for all layers, in huge pages where the system
// grants them, taken as blocks are first written. Layers with a sliding window have places for the
// window parts of blocks alone (window_parts.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/kernels/primitives/ops.h"

namespace mlxr {

struct ArenaShape {
  int32_t layers = 0;  // those with a window included
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_tokens = 0;
  KvType type = KvType::kF16;
  int32_t window_layers = 0;

  // Keys or values of one block in a layer.
  int64_t half_bytes() const {
    return kv_heads * cpu::kv_region_bytes(type, head_dim, block_tokens);
  }
  // Keys and values of one block in every layer, in those without a window and in those with one.
  int64_t block_bytes() const { return 2 * layers * half_bytes(); }
  int64_t full_bytes() const { return 2 * (layers - window_layers) * half_bytes(); }
  int64_t part_bytes() const { return 2 * window_layers * half_bytes(); }
  // An arena of so many blocks and window parts.
  int64_t bytes(int64_t blocks, int64_t parts) const {
    return full_bytes() * blocks + part_bytes() * parts;
  }
};

// One KvLayer a layer; together they own the memory. `windowed` [layers]. Throws
// Error{kOutOfMemory} with the size when the system refuses it.
std::vector<KvLayer> allocate_arena(const ArenaShape& shape, int32_t blocks, int32_t parts,
                                    const std::vector<bool>& windowed);

}  // namespace mlxr
