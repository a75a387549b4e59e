#include "core/graph/decoder.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/huge_pages.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// Looks modules up by name and checks their shapes.
class Loader {
 public:
  explicit Loader(const TensorSource& source) : source_(source) {}

  Weight matrix(const std::string& module, int64_t rows, int64_t cols) const {
    const WeightView view = require(module);
    if (view.rows() != rows || view.columns() != cols) {
      wrong_shape(view, {rows, cols});
    }
    return wrap_weight(view);
  }

  LinearWeight linear(const std::string& module, int64_t rows, int64_t cols) const {
    LinearWeight out{matrix(module, rows, cols), std::nullopt};
    if (const auto bias = source_.bias(module)) out.bias = vector(*bias, rows);
    return out;
  }

  mx::array norm(const std::string& module, int64_t n) const { return vector(require(module), n); }

  bool has(const std::string& module) const { return source_.weight(module).has_value(); }

 private:
  WeightView require(const std::string& module) const {
    auto view = source_.weight(module);
    if (!view) {
      throw Error(ErrorCode::kCorruptFile, source_.where() + " lacks the tensor \"" + module +
                                               ".weight\"; download the model again");
    }
    return *view;
  }

  [[noreturn]] void wrong_shape(const WeightView& view, const std::vector<int64_t>& wanted) const {
    const auto print = [](const std::vector<int64_t>& shape) {
      std::string out;
      for (int64_t size : shape) out += (out.empty() ? "[" : ", ") + std::to_string(size);
      return out + "]";
    };
    throw Error(ErrorCode::kCorruptFile, source_.where() + " has tensor \"" + view.name +
                                             "\" of shape " + print(view.shape) + " instead of " +
                                             print(wanted));
  }

  // Small vectors are decoded to float32 once: kernels add and multiply them as they are.
  mx::array vector(const WeightView& view, int64_t n) const {
    if (view.elements() != n) wrong_shape(view, {n});
    std::vector<float> values(static_cast<size_t>(n));
    WeightView row = view;
    row.shape = {1, n};
    dequantize_row(row, 0, values.data());
    return mx::array(values.begin(), {static_cast<int>(n)}, mx::float32);
  }

  const TensorSource& source_;
};

LayerWeights load_layer(const ModelSpec& s, const TensorNames& names, const Loader& load,
                        int32_t i) {
  const int64_t q_rows = int64_t{s.heads} * s.head_dim, kv_rows = int64_t{s.kv_heads} * s.head_dim;
  const auto name = [&](const std::string& module) { return in_layer(module, i); };
  return {.attn_norm = load.norm(name(names.attn_norm), s.hidden),
          .mlp_norm = load.norm(name(names.mlp_norm), s.hidden),
          .q = load.linear(name(names.q), q_rows, s.hidden),
          .k = load.linear(name(names.k), kv_rows, s.hidden),
          .v = load.linear(name(names.v), kv_rows, s.hidden),
          .o = load.linear(name(names.o), s.hidden, q_rows),
          .gate = load.linear(name(names.gate), s.ffn, s.hidden),
          .up = load.linear(name(names.up), s.ffn, s.hidden),
          .down = load.linear(name(names.down), s.hidden, s.ffn)};
}

mx::array attention_block(const ModelSpec& spec, const LayerWeights& layer, const mx::array& x,
                          const std::shared_ptr<const StepPlan>& plan, const KvLayer& kv,
                          const KernelContext& context) {
  const auto qkv = q_gemm_dequant(x, {&layer.q, &layer.k, &layer.v}, context);
  const RopeParams rope{.heads = spec.heads, .interleaved = spec.rope.interleaved};
  const auto q = rope_kv_pack_store(qkv[0], qkv[1], qkv[2], rope, kv, plan, context);
  const cpu::AttentionParams params{.heads = spec.heads,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim)),
                                    .window = 0};
  return attention_fused(q, params, kv, plan, context);
}

}  // namespace

std::shared_ptr<const DecoderWeights> load_decoder(const ModelSpec& spec, const TensorNames& names,
                                                   const TensorSource& source) {
  const Loader load(source);
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
  // Matrices that are packed together, in the order that a step reads them.
  const auto each = [&](const auto& visit, const auto& end_of_layer) {
    for (LayerWeights& l : packed->layers) {
      for (LinearWeight* one : {&l.q, &l.k, &l.v, &l.o}) visit({&one->weight});
      visit({&l.gate.weight, &l.up.weight});
      visit({&l.down.weight});
      end_of_layer();
    }
    visit({&packed->output.weight});
    end_of_layer();
  };
  using Matrices = std::vector<Weight*>;
  const auto aligned = [](const Matrices& m) { return (packed_size(m) + 63) / 64 * 64; };
  int64_t total = 0;
  each([&](const Matrices& m) { total += aligned(m); }, [] {});
  const auto memory = std::make_shared<HugePages>(static_cast<size_t>(total));
  int64_t at = 0;
  each(
      [&](const Matrices& m) {
        const int64_t size = aligned(m);
        if (size > 0) pack_weights(m, memory->data() + at, memory, threads);
        at += size;
      },
      after_layer);
  return {std::move(packed), total};
}

std::optional<mx::array> decoder_step(const ModelSpec& spec, const DecoderWeights& weights,
                                      std::shared_ptr<const StepPlan> plan,
                                      const std::vector<KvLayer>& kv,
                                      const KernelContext& context) {
  mx::array h = embed(weights.embedding, plan, context);
  mx::array x = rmsnorm_fused(h, weights.layers[0].attn_norm, spec.norm_eps, context);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const bool last = i + 1 == weights.layers.size();
    mx::array attended = attention_block(spec, layer, x, plan, kv[i], context);
    if (last) {  // from here on only the rows whose logits are wanted
      if (plan->logit_rows.empty()) return std::nullopt;
      h = select_rows(h, plan, context);
      attended = select_rows(attended, plan, context);
    }
    attended = q_gemm_dequant(attended, {&layer.o}, context)[0];
    const auto middle = add_rmsnorm_fused(h, attended, layer.mlp_norm, spec.norm_eps, context);
    const auto activated = swiglu_mlp_fused(middle.normed, layer.gate, layer.up, context);
    const auto mlp = q_gemm_dequant(activated, {&layer.down}, context)[0];
    const auto& next_norm = last ? weights.final_norm : weights.layers[i + 1].attn_norm;
    const auto end = add_rmsnorm_fused(middle.sum, mlp, next_norm, spec.norm_eps, context);
    h = end.sum;
    x = end.normed;
  }
  return q_gemm_dequant(x, {&weights.output}, context)[0];
}

}  // namespace mlxr
