// The one decoder builder: a ModelSpec and its weights to the graph of a ragged step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/layer.h"

namespace mlxr {

struct DecoderWeights {
  Weight embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  NormWeight final_norm;
  LinearWeight output;  // [vocab, hidden]; the embedding when it is tied
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

WeightMemory decoder_memory(const DecoderWeights& weights, bool interleave);

// What a step leaves for those who asked, float32.
struct StepResults {
  std::optional<mlx::core::array> states;  // [plan.result_rows, hidden], after the final norm
  std::optional<mlx::core::array> logits;  // [plan.logit_rows, vocab]
};

// Computes one step: its keys and values are stored, and its results returned. Without adapters it
// is the very same computation as if there were no such thing.
StepResults decoder_step(const ModelSpec& spec, const DecoderWeights& weights,
                         std::shared_ptr<const StepPlan> plan, const std::vector<KvLayer>& kv,
                         const KernelContext& context, const StepAdapters& adapters = {});

}  // namespace mlxr
