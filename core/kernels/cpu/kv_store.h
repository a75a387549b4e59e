// Writing keys and values into a KV arena, in any of its number formats (kv_layout.h).
#pragma once

#include <cstdint>

#include "core/kernels/cpu/kv_layout.h"

namespace mlxr::cpu {

// Stores one token's key and value of every KV head ([kv_heads, head_dim] float32 each) at `slot`
// of `block`. Rounds to nearest, ties to even; a number that a format cannot hold saturates. NaN
// and infinities are read as NaN or infinities again; where numbers share a scale, all that share
// it are then NaN.
void kv_store(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
              const float* value);

}  // namespace mlxr::cpu
