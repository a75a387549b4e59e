#include "core/runtime/kv/arena.h"

#include <string>

#include "core/base/error.h"
#include "core/base/huge_pages.h"

namespace mlxr {
namespace {

// Attention reads blocks that lie apart: with pages of 4 KiB it waits for address look-ups.
HugePages reserve(int64_t total) {
  try {
    return HugePages(static_cast<size_t>(total));
  } catch (const Error&) {
    throw Error(ErrorCode::kOutOfMemory, "cannot reserve " + std::to_string(total >> 20) +
                                             " MiB for the KV cache; set a smaller kv_bytes");
  }
}

}  // namespace

std::vector<KvLayer> allocate_arena(const ArenaShape& shape, int32_t blocks) {
  const int64_t total = shape.block_bytes() * blocks;
  const auto owner = std::make_shared<HugePages>(reserve(total));
  uint8_t* memory = owner->data();

  const int64_t half_layer = total / shape.layers / 2;
  std::vector<KvLayer> layers;
  for (int32_t i = 0; i < shape.layers; ++i) {
    uint8_t* k = memory + 2 * i * half_layer;
    layers.push_back({.ref = {.k = k,
                              .v = k + half_layer,
                              .type = shape.type,
                              .kv_heads = shape.kv_heads,
                              .head_dim = shape.head_dim,
                              .block_tokens = shape.block_tokens},
                      .owner = owner});
  }
  return layers;
}

}  // namespace mlxr
