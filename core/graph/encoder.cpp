#include "core/graph/encoder.h"

#include <cmath>

#include "core/kernels/cpu/matmul.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// In float64: a head is small, and is asked once a sequence.
std::vector<float> times(const LinearWeight& linear, std::span<const float> x) {
  std::vector<float> row(x.size()), out;
  for (int64_t r = 0; r < linear.weight.rows(); ++r) {
    cpu::decode_row(linear.weight.ref, r, row.data());
    double sum = linear.bias ? linear.bias->data<float>()[r] : 0.0;
    for (size_t i = 0; i < x.size(); ++i) sum += double{row[i]} * x[i];
    out.push_back(static_cast<float>(sum));
  }
  return out;
}

ClassifierHead load_classifier(const ModelSpec& spec, const TensorNames& names,
                               const WeightLoader& load) {
  if (!load.has(names.classifier)) {
    return {.dense = {}, .output = load.linear(names.classifier_dense, spec.classes, spec.hidden)};
  }
  ClassifierHead head{.dense = {},
                      .output = load.linear(names.classifier, spec.classes, spec.hidden)};
  if (load.has(names.classifier_dense)) {
    head.dense = load.linear(names.classifier_dense, spec.hidden, spec.hidden);
  }
  return head;
}

}  // namespace

std::shared_ptr<const EncoderWeights> load_encoder(const ModelSpec& spec, const TensorNames& names,
                                                   const TensorSource& source) {
  const WeightLoader load(source, spec);
  EncoderWeights weights{.tokens = load.matrix(names.embedding, spec.vocab, spec.hidden),
                         .positions = load.matrix(names.positions, spec.context, spec.hidden),
                         .types = {},
                         .embedding_norm = load.norm(names.embedding_norm, spec.hidden),
                         .layers = {},
                         .classifier = {}};
  if (spec.token_types > 0) {
    weights.types = load.matrix(names.token_types, spec.token_types, spec.hidden);
  }
  for (int32_t i = 0; i < spec.layers; ++i) {
    weights.layers.push_back(load_layer(spec, names, load, i));
  }
  if (spec.classes > 0) weights.classifier = load_classifier(spec, names, load);
  return std::make_shared<EncoderWeights>(std::move(weights));
}

PackedEncoder pack_encoder(const EncoderWeights& weights, ThreadPool& threads,
                           const std::function<void()>& after_layer) {
  auto packed = std::make_shared<EncoderWeights>(weights);
  const int64_t bytes = pack_layers(packed->layers, {}, threads, after_layer);
  return {std::move(packed), bytes};
}

WeightMemory encoder_memory(const EncoderWeights& weights, bool interleave) {
  std::vector<const Weight*> tables{&weights.tokens, &weights.positions};
  if (weights.types) tables.push_back(&*weights.types);
  return weight_memory(weights.layers, {}, tables, interleave);
}

mx::array encoder_step(const ModelSpec& spec, const EncoderWeights& weights,
                       std::shared_ptr<const StepPlan> plan, const KvLayer& kv,
                       const KernelContext& context) {
  std::vector<Weight> tables{weights.tokens, weights.positions};
  if (weights.types) tables.push_back(*weights.types);
  mx::array h =
      norm_fused(embed_with_places(tables, plan, context), weights.embedding_norm, context);
  for (const LayerWeights& layer : weights.layers) {
    mx::array attended = attention_block(spec, layer, 0, h, plan, kv, context);
    if (&layer == &weights.layers.back()) {  // the states of the others are not needed any more
      h = select_rows(h, plan->result_rows, context);
      attended = select_rows(attended, plan->result_rows, context);
    }
    attended = q_gemm_dequant(attended, {&layer.o}, context)[0];
    h = add_norm_fused(h, attended, layer.attn_norm, context).normed;
    h = add_norm_fused(h, feed_forward(spec, layer, h, context), layer.mlp_norm, context).normed;
  }
  return h;
}

std::vector<float> classify(const ClassifierHead& head, std::span<const float> state) {
  if (!head.dense) return times(head.output, state);
  std::vector<float> inner = times(*head.dense, state);
  for (float& v : inner) v = std::tanh(v);
  return times(head.output, inner);
}

}  // namespace mlxr
