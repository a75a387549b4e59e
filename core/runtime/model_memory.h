// What a model will take in memory, known before it is loaded: headers are read, not weights.
#pragma once

#include <cstdint>

#include "core/graph/decoder.h"
#include "core/graph/model_spec.h"
#include "core/runtime/model.h"

namespace mlxr {

struct OpenedModel;  // model_files.h

struct ModelMemory {
  ModelFacts facts;
  ModelSpec spec;
  WeightMemory weights;
  int64_t text = 0;  // tokenizer, and the automata of constraints
};

// `interleave`: as ModelLoadOptions::repack. Throws what load_model throws of headers.
ModelMemory model_memory(const OpenedModel& opened, bool interleave);

// Activations at their peak in a step of so many tokens, `logit_rows` of which want logits.
int64_t activation_bytes(const ModelSpec& spec, int64_t tokens, int64_t logit_rows);

// What adapters add to that whose ranks add up to so many, where all of them are applied to all of
// the tokens.
int64_t adapter_activation_bytes(int64_t tokens, int64_t ranks);

}  // namespace mlxr
