#include "core/runtime/model_memory.h"

#include <algorithm>

#include "core/graph/encoder.h"
#include "core/runtime/model_files.h"

namespace mlxr {
namespace {

// Tables of the tokenizer (measured with 152,000 tokens: 512) and, once a constraint was used, of
// llguidance's token trie (375), for each token of the vocabulary.
constexpr int64_t kTextBytesPerToken = 1024;

// Numbers a token that are there together, as decoder_step makes and drops them.
int64_t floats_per_token(const ModelSpec& s) {
  const int64_t hidden = s.hidden, q = int64_t{s.heads} * s.head_dim,
                kv = int64_t{s.kv_heads} * s.head_dim;
  const int64_t attention = 2 * hidden + 3 * q + 2 * kv;  // residual, its norm; q twice, result
  int64_t mlp = s.ffn, widest = std::max({hidden, q, int64_t{s.ffn}});
  if (s.moe.experts > 0) {
    mlp = s.moe.router.used * (2 * hidden + int64_t{s.moe.ffn}) + s.moe.shared_ffn;
    widest = std::max(widest, s.moe.router.used * std::max(hidden, int64_t{s.moe.ffn}));
  }
  // The input of a product is there once more, in the form that its kernel reads.
  return std::max(attention, 4 * hidden + mlp) + widest;
}

}  // namespace

ModelMemory model_memory(const OpenedModel& opened, bool interleave) {
  ModelMemory memory{.facts = opened.facts,
                     .spec = opened.spec,
                     .weights = {},
                     .text = kTextBytesPerToken * opened.spec.vocab};
  memory.weights =
      opened.spec.encoder
          ? encoder_memory(*load_encoder(opened.spec, opened.names, *opened.source), interleave)
          : decoder_memory(*load_decoder(opened.spec, opened.names, *opened.source), interleave);
  return memory;
}

int64_t activation_bytes(const ModelSpec& spec, int64_t tokens, int64_t logit_rows) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t angles = (spec.window_rope ? 2 : 1) * int64_t{spec.head_dim};
  return kFloat * (tokens * (floats_per_token(spec) + angles) + logit_rows * int64_t{spec.vocab});
}

// First halves of q, k and v at most, each there once more as the second half reads it.
int64_t adapter_activation_bytes(int64_t tokens, int64_t ranks) {
  constexpr int64_t kFloat = sizeof(float), kProducts = 3, kForms = 2;
  return kFloat * kProducts * kForms * tokens * ranks;
}

}  // namespace mlxr
