// The one decoder builder: a ModelSpec and its weights to the graph of a ragged step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/family.h"
#include "core/graph/model_spec.h"
#include "core/graph/tensor_source.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {

struct LayerWeights {
  mlx::core::array attn_norm, mlp_norm;  // float32 [hidden]
  LinearWeight q, k, v, o;
  LinearWeight gate, up, down;
};

struct DecoderWeights {
  Weight embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  mlx::core::array final_norm;  // float32 [hidden]
  LinearWeight output;          // [vocab, hidden]; the embedding when it is tied
};

// Finds and checks every tensor that `spec` needs. Throws Error{kCorruptFile} naming a tensor that
// is missing or has the wrong shape.
std::shared_ptr<const DecoderWeights> load_decoder(const ModelSpec& spec, const TensorNames& names,
                                                   const TensorSource& source);

// The same weights with every matrix that is multiplied interleaved for this machine's kernels; the
// embedding stays as it lies, for its rows are looked up. `after_layer` is called now and then, so
// that pages of the file which were read can be let go.
struct PackedDecoder {
  std::shared_ptr<const DecoderWeights> weights;
  int64_t bytes = 0;  // of memory that the interleaved matrices take; 0: none could be
};
PackedDecoder pack_decoder(const DecoderWeights& weights, ThreadPool& threads,
                           const std::function<void()>& after_layer);

// Computes one step: its keys and values are stored, and its logits returned, float32
// [plan.logit_rows, vocab]; nullopt where the plan wants none.
std::optional<mlx::core::array> decoder_step(const ModelSpec& spec, const DecoderWeights& weights,
                                             std::shared_ptr<const StepPlan> plan,
                                             const std::vector<KvLayer>& kv,
                                             const KernelContext& context);

}  // namespace mlxr
