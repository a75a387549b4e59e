#include "core/graph/decoder.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

mx::array norm_if(const std::optional<NormWeight>& norm, const mx::array& x,
                  const KernelContext& context) {
  return norm ? norm_fused(x, *norm, context) : x;
}

}  // namespace

std::shared_ptr<const DecoderWeights> load_decoder(const ModelSpec& spec, const TensorNames& names,
                                                   const TensorSource& source) {
  const WeightLoader load(source, spec);
  Weight embedding = load.matrix(names.embedding, spec.vocab, spec.hidden);
  const bool tied = spec.tied_embeddings || !load.has(names.output);
  LinearWeight output = tied ? LinearWeight{embedding, std::nullopt}
                             : load.linear(names.output, spec.vocab, spec.hidden);
  std::vector<LayerWeights> layers;
  for (int32_t i = 0; i < spec.layers; ++i) layers.push_back(load_layer(spec, names, load, i));
  return std::make_shared<DecoderWeights>(
      DecoderWeights{.embedding = std::move(embedding),
                     .layers = std::move(layers),
                     .final_norm = load.norm(names.final_norm, spec.hidden),
                     .output = std::move(output)});
}

PackedDecoder pack_decoder(const DecoderWeights& weights, ThreadPool& threads,
                           const std::function<void()>& after_layer) {
  auto packed = std::make_shared<DecoderWeights>(weights);
  const int64_t bytes = pack_layers(packed->layers, {&packed->output.weight}, threads, after_layer);
  return {std::move(packed), bytes};
}

WeightMemory decoder_memory(const DecoderWeights& weights, bool interleave) {
  return weight_memory(weights.layers, {&weights.output.weight}, {&weights.embedding}, interleave);
}

StepResults decoder_step(const ModelSpec& spec, const DecoderWeights& weights,
                         std::shared_ptr<const StepPlan> plan, const std::vector<KvLayer>& kv,
                         const KernelContext& context, const StepAdapters& adapters) {
  mx::array h = embed(weights.embedding, spec.embedding_scale, plan, context);
  mx::array x = norm_fused(h, weights.layers[0].attn_norm, context);
  for (int32_t i = 0; i < spec.layers; ++i) {
    const auto at = static_cast<size_t>(i);
    const LayerWeights& layer = weights.layers[at];
    const bool last = i + 1 == spec.layers;
    AddedTerms added{.rows = adapters.rows, .layer = i};
    mx::array attended =
        attention_block(spec, layer, spec.window(i), x, plan, kv[at], context, added);
    if (last) {  // from here on only the rows whose results are wanted
      if (plan->result_rows.empty()) return {};
      h = select_rows(h, plan->result_rows, context);
      attended = select_rows(attended, plan->result_rows, context);
      added.rows = adapters.result_rows;
    }
    attended = q_gemm_dequant(attended, {&layer.o}, context, added.to({&AdapterLayer::o}))[0];
    attended = norm_if(layer.post_attn_norm, attended, context);
    const auto middle = add_norm_fused(h, attended, layer.mlp_norm, context);
    const auto mlp = norm_if(layer.post_mlp_norm,
                             feed_forward(spec, layer, middle.normed, context, added), context);
    const auto& next_norm = last ? weights.final_norm : weights.layers[at + 1].attn_norm;
    const auto end = add_norm_fused(middle.sum, mlp, next_norm, context);
    h = end.sum;
    x = end.normed;
  }
  StepResults results{.states = x, .logits = {}};
  if (plan->logit_rows.empty()) return results;
  const mx::array rows = select_rows(x, plan->logit_rows, context);
  const auto logits = q_gemm_dequant(rows, {&weights.output}, context)[0];
  results.logits =
      spec.logit_soft_cap > 0 ? soft_cap(logits, spec.logit_soft_cap, context) : logits;
  return results;
}

}  // namespace mlxr
