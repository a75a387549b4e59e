#include "core/runtime/kv/kv_plan.h"

#include <algorithm>
#include <cmath>
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

// What the model says of its KV.
struct Layers {
  ArenaShape shape;     // layers, heads, head_dim
  int32_t trained = 0;  // tokens that the model was trained for
  int32_t window = 0;   // the widest of its windows
};

class Planner {
 public:
  Planner(const Layers& layers, const EngineOptions& options)
      : options_(options),
        window_{.tokens = layers.window, .step_tokens = options.window_step_tokens} {
    if (options.kv_block_tokens != 16 && options.kv_block_tokens != 32) {
      throw Error(ErrorCode::kInvalidArgument, "kv_block_tokens must be 16 or 32");
    }
    plan_.shape = layers.shape;
    plan_.shape.block_tokens = options.kv_block_tokens;
    plan_.shape.type = options.kv_type;
    context_ = options.context_length > 0 ? options.context_length : layers.trained;
    if (window_.tokens >= context_) window_.tokens = plan_.shape.window_layers = 0;
  }

  KvPlan of_bytes() {
    const int64_t bytes = options_.kv_bytes > 0 ? options_.kv_bytes : default_bytes();
    const int64_t blocks = blocks_within(bytes);
    if (blocks < 1) {
      throw Error(ErrorCode::kOutOfMemory,
                  "a KV cache of " + std::to_string(bytes) + " bytes holds no block of " +
                      std::to_string(plan_.shape.block_bytes()) + " bytes; set a larger kv_bytes");
    }
    return of_blocks(blocks);
  }

  KvPlan of_blocks(int64_t blocks) {
    plan_.blocks = static_cast<int32_t>(blocks);
    plan_.window = window_;
    plan_.window.parts = static_cast<int32_t>(parts_for(blocks));
    // What the model and the memory allow, fixed here: it never depends on a request.
    plan_.context = static_cast<int32_t>(std::min(context_, blocks * plan_.shape.block_tokens));
    return plan_;
  }

 private:
  // Places for the windows that so many blocks are given: of as many sequences as the blocks hold
  // at full length, and at least for a quarter of the blocks, where the sequences are shorter.
  int64_t parts_for(int64_t blocks) const {
    if (window_.tokens == 0) return 0;
    const int64_t of_one = window_.most_held(plan_.shape.block_tokens);
    const double sequences =
        static_cast<double>(blocks) * plan_.shape.block_tokens / static_cast<double>(context_);
    const auto of_all =
        static_cast<int64_t>(std::ceil(std::max(1.0, sequences) * static_cast<double>(of_one)));
    return std::min(blocks, std::max(of_all, blocks / 4));
  }

  int64_t bytes_for(int64_t blocks) const { return plan_.shape.bytes(blocks, parts_for(blocks)); }

  // As many as fit; bytes_for() grows with the blocks.
  int64_t blocks_within(int64_t bytes) const {
    int64_t fit = 0, too_many = std::numeric_limits<int32_t>::max();
    while (too_many - fit > 1) {
      const int64_t middle = (fit + too_many) / 2;
      (bytes_for(middle) <= bytes ? fit : too_many) = middle;
    }
    return fit;
  }

  // Four full contexts, but not more than a quarter of the memory.
  int64_t default_bytes() const {
    const int64_t wanted = bytes_for(4 * blocks_for(context_, plan_.shape.block_tokens));
    const int64_t most = (options_.memory > 0 ? options_.memory : usable_memory()) / 4;
    return std::max(std::min(wanted, most), plan_.shape.block_bytes());
  }

  const EngineOptions& options_;
  KvWindow window_;
  int64_t context_ = 0;
  KvPlan plan_;
};

Layers layers_of(const ModelSpec& spec) {
  return {.shape = {.layers = spec.kv_layers(),
                    .kv_heads = spec.kv_heads,
                    .head_dim = spec.head_dim,
                    .window_layers = spec.window_layers()},
          .trained = spec.context,
          .window = spec.widest_window()};
}

}  // namespace

KvPlan plan_kv(const ModelSpec& spec, const EngineOptions& options) {
  return Planner(layers_of(spec), options).of_bytes();
}

KvPlan plan_kv(const ModelFacts& facts, const EngineOptions& options) {
  const Layers layers{.shape = {.layers = facts.kv_layers,
                                .kv_heads = facts.kv_heads,
                                .head_dim = facts.head_dim,
                                .window_layers = facts.window_layers},
                      .trained = facts.context_length,
                      .window = facts.window};
  return Planner(layers, options).of_bytes();
}

KvPlan plan_kv_blocks(const ModelSpec& spec, const EngineOptions& options, int64_t blocks) {
  return Planner(layers_of(spec), options).of_blocks(blocks);
}

}  // namespace mlxr
