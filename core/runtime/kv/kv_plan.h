// The size of a model's KV arena and the window that follows from it, before anything is allocated.
#pragma once

#include "core/graph/model_spec.h"
#include "core/runtime/kv/arena.h"
#include "core/runtime/kv/window_parts.h"

namespace mlxr {

struct EngineOptions;
struct ModelFacts;

struct KvPlan {
  ArenaShape shape;
  int32_t blocks = 0;
  int32_t context = 0;  // tokens that a sequence may hold
  KvWindow window;      // none where it is no shorter than the context

  int64_t bytes() const { return shape.bytes(blocks, window.parts); }
};

// Throws Error{kInvalidArgument, kOutOfMemory} for sizes that make no sense.
KvPlan plan_kv(const ModelSpec& spec, const EngineOptions& options);
KvPlan plan_kv(const ModelFacts& facts, const EngineOptions& options);
// With so many blocks, whatever the options say of bytes.
KvPlan plan_kv_blocks(const ModelSpec& spec, const EngineOptions& options, int64_t blocks);

}  // namespace mlxr
