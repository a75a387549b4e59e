#include "core/runtime/kv/arena.h"

#include <sys/mman.h>

#include <string>

#include "core/base/error.h"

namespace mlxr {

std::vector<KvLayer> allocate_arena(const ArenaShape& shape, int32_t blocks) {
  const int64_t total = shape.block_bytes() * blocks;
  const auto size = static_cast<size_t>(total);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ErrorCode::kOutOfMemory, "cannot reserve " + std::to_string(total >> 20) +
                                             " MiB for the KV cache; set a smaller kv_bytes");
  }
  const std::shared_ptr<void> owner(memory, [size](void* p) { ::munmap(p, size); });

  const int64_t half_layer = total / shape.layers / 2;
  std::vector<KvLayer> layers;
  for (int32_t i = 0; i < shape.layers; ++i) {
    char* k = static_cast<char*>(memory) + 2 * i * half_layer;
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
