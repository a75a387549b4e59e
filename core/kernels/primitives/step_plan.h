// What every primitive of one ragged step needs to know of it: which tokens, at which positions, of
// which sequences, and where their KV lies. Plain data, built once a step, shared by all layers.
#pragma once

#include <cstdint>
#include <vector>

namespace mlxr {

struct StepPlan {
  struct Slice {
    int32_t first = 0;            // index of its first token in the step
    int32_t count = 0;            // tokens
    int64_t position = 0;         // of its first token in its sequence
    std::vector<int32_t> blocks;  // block table, enough for position + count tokens
    // The same for layers with a window, whose blocks lie elsewhere (runtime/kv/window_parts.h):
    // those before the first token's window are there for the count alone. Empty where none has.
    std::vector<int32_t> window_blocks;

    const std::vector<int32_t>& table(bool window) const { return window ? window_blocks : blocks; }
  };

  std::vector<int32_t> token_ids;  // [tokens]
  std::vector<int32_t> positions;  // [tokens]
  std::vector<Slice> slices;
  std::vector<int32_t> token_types;  // [tokens] of an encoder that tells segments apart
  std::vector<int32_t> result_rows;  // tokens whose final states are wanted, ascending
  std::vector<int32_t> logit_rows;   // indexes into result_rows: they go on to the vocabulary
  int32_t block_tokens = 0;

  // Rotary angles of each token, [tokens, pairs]: those of the model, then those of its windowed
  // layers where they have their own.
  struct Angles {
    int32_t pairs = 0;
    std::vector<float> cos, sin;
  };
  std::vector<Angles> angles;

  int32_t tokens() const { return static_cast<int32_t>(token_ids.size()); }
};

}  // namespace mlxr
