#include "core/runtime/kv/kv_plan.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/base/error.h"
#include "core/base/system_memory.h"
#include "core/runtime/engine.h"

namespace mlxr {
namespace {

int64_t blocks_for(int64_t tokens, int32_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

// Four full contexts, but not more than a quarter of the memory.
int64_t default_bytes(const ArenaShape& shape, int64_t context, int64_t memory) {
  const int64_t wanted = 4 * blocks_for(context, shape.block_tokens) * shape.block_bytes();
  const int64_t most = (memory > 0 ? memory : usable_memory()) / 4;
  return std::max(std::min(wanted, most), shape.block_bytes());
}

// `shape`: layers, heads and head_dim; `trained`: tokens that the model was trained for.
KvPlan plan(ArenaShape shape, int64_t trained, const EngineOptions& options) {
  if (options.kv_block_tokens != 16 && options.kv_block_tokens != 32) {
    throw Error(ErrorCode::kInvalidArgument, "kv_block_tokens must be 16 or 32");
  }
  shape.block_tokens = options.kv_block_tokens;
  shape.type = options.kv_type;
  const int64_t context = options.context_length > 0 ? options.context_length : trained;
  const int64_t bytes =
      options.kv_bytes > 0 ? options.kv_bytes : default_bytes(shape, context, options.memory);
  const int64_t blocks =
      std::min<int64_t>(bytes / shape.block_bytes(), std::numeric_limits<int32_t>::max());
  if (blocks < 1) {
    throw Error(ErrorCode::kOutOfMemory,
                "a KV cache of " + std::to_string(bytes) + " bytes holds no block of " +
                    std::to_string(shape.block_bytes()) + " bytes; set a larger kv_bytes");
  }
  // The window is what the model and the memory allow, fixed here: it never depends on a request.
  const int64_t window = std::min(context, blocks * shape.block_tokens);
  return {shape, static_cast<int32_t>(blocks), static_cast<int32_t>(window)};
}

}  // namespace

KvPlan plan_kv(const ModelSpec& spec, const EngineOptions& options) {
  return plan({.layers = spec.kv_layers(), .kv_heads = spec.kv_heads, .head_dim = spec.head_dim},
              spec.context, options);
}

KvPlan plan_kv(const ModelFacts& facts, const EngineOptions& options) {
  return plan({.layers = facts.kv_layers, .kv_heads = facts.kv_heads, .head_dim = facts.head_dim},
              facts.context_length, options);
}

}  // namespace mlxr
