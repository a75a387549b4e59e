// The memory that KV blocks live in: one allocation for all layers, in huge pages where the system
// grants them, taken as blocks are first written.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/kernels/primitives/ops.h"

namespace mlxr {

struct ArenaShape {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_tokens = 0;
  KvType type = KvType::kF16;

  // Keys and values of one block in every layer.
  int64_t block_bytes() const {
    return int64_t{2} * layers * kv_heads * cpu::kv_region_bytes(type, head_dim, block_tokens);
  }
};

// One KvLayer a layer; together they own the memory. Throws Error{kOutOfMemory} with the size when
// the system refuses it.
std::vector<KvLayer> allocate_arena(const ArenaShape& shape, int32_t blocks);

}  // namespace mlxr
