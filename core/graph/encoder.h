// The encoder builder (BERT, Devlin et al. 2019): a ModelSpec and its weights to the graph of a
// step over whole sequences. Its layers are the decoder's, normed behind each block.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/graph/layer.h"

namespace mlxr {

// Judges a sequence by the state of its first token: output(tanh(dense(state))).
struct ClassifierHead {
  std::optional<LinearWeight> dense;  // [hidden, hidden]
  LinearWeight output;                // [classes, hidden]
};

struct EncoderWeights {
  Weight tokens, positions;     // [vocab, hidden], [context, hidden]
  std::optional<Weight> types;  // [token types, hidden]
  NormWeight embedding_norm;
  std::vector<LayerWeights> layers;
  std::optional<ClassifierHead> classifier;
};

// Throws as WeightLoader does.
std::shared_ptr<const EncoderWeights> load_encoder(const ModelSpec& spec, const TensorNames& names,
                                                   const TensorSource& source);

// As pack_decoder: the same weights, interleaved, and the bytes that they take.
struct PackedEncoder {
  std::shared_ptr<const EncoderWeights> weights;
  int64_t bytes = 0;
};
PackedEncoder pack_encoder(const EncoderWeights& weights, ThreadPool& threads,
                           const std::function<void()>& after_layer);

WeightMemory encoder_memory(const EncoderWeights& weights, bool interleave);

// Final states of the tokens plan.result_rows, float32 [rows, hidden]. Every slice is a whole
// sequence; `kv` holds keys and values of one layer at a time.
mlx::core::array encoder_step(const ModelSpec& spec, const EncoderWeights& weights,
                              std::shared_ptr<const StepPlan> plan, const KvLayer& kv,
                              const KernelContext& context);

// The head's outputs for a first token's final state.
std::vector<float> classify(const ClassifierHead& head, std::span<const float> state);

}  // namespace mlxr
