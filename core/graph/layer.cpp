#include "core/graph/layer.h"

#include <algorithm>
#include <cmath>

#include "core/base/huge_pages.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

MlpWeights load_mlp(const ModelSpec& s, const WeightLoader& load, const std::string& gate,
                    const std::string& up, const std::string& down, int64_t ffn) {
  MlpWeights mlp{
      .gate = {}, .up = load.linear(up, ffn, s.hidden), .down = load.linear(down, s.hidden, ffn)};
  if (s.gated_mlp) mlp.gate = load.linear(gate, ffn, s.hidden);
  return mlp;
}

MoeWeights load_moe(const ModelSpec& s, const TensorNames& names, const WeightLoader& load,
                    int32_t i) {
  const auto name = [&](const std::string& module) { return in_layer(module, i); };
  const std::string gate = name(names.expert_gate), up = name(names.expert_up),
                    down = name(names.expert_down);
  auto experts = std::make_shared<std::vector<MlpWeights>>();
  for (int32_t e = 0; e < s.moe.experts; ++e) {
    experts->push_back({.gate = load.expert(gate, e, s.moe.ffn, s.hidden),
                        .up = load.expert(up, e, s.moe.ffn, s.hidden),
                        .down = load.expert(down, e, s.hidden, s.moe.ffn)});
  }
  MoeWeights moe{.router = load.linear(name(names.router), s.moe.experts, s.hidden),
                 .experts = std::move(experts),
                 .shared = {},
                 .shared_router = {}};
  if (s.moe.shared_ffn > 0) {
    moe.shared = load_mlp(s, load, name(names.shared_gate), name(names.shared_up),
                          name(names.shared_down), s.moe.shared_ffn);
  }
  if (s.moe.shared_gate) moe.shared_router = load.linear(name(names.shared_router), 1, s.hidden);
  return moe;
}

mx::array mlp_block(const ModelSpec& spec, const MlpWeights& mlp, const mx::array& x,
                    const KernelContext& context, const AddedTerms& added) {
  using Targets = AdapterLayer;
  const auto activated =
      mlp.gate ? swiglu_mlp_fused(x, *mlp.gate, mlp.up, spec.activation, context,
                                  added.to({&Targets::gate, &Targets::up}))
               : activated_mlp_fused(x, mlp.up, spec.activation, context, added.to({&Targets::up}));
  return q_gemm_dequant(activated, {&mlp.down}, context, added.to({&Targets::down}))[0];
}

mx::array moe_block(const ModelSpec& spec, const MoeWeights& moe, const mx::array& x,
                    const KernelContext& context) {
  std::vector<mx::array> shared;
  if (moe.shared) shared.push_back(mlp_block(spec, *moe.shared, x, context, {}));
  std::vector<const LinearWeight*> routers{&moe.router};
  if (moe.shared_router) routers.push_back(&*moe.shared_router);
  const auto logits = q_gemm_dequant(x, routers, context);
  if (moe.shared_router) shared.push_back(logits[1]);
  const MoeParams params{
      .router = spec.moe.router, .router_bias = {}, .activation = spec.activation};
  return moe_grouped_gemm(x, logits[0], moe.experts, params, shared, context);
}

using Matrices = std::vector<Weight*>;

// Weights to be replaced by their interleaved form. Matrices come together that are packed
// together, in the order that a step reads them.
class MatricesToPack {
 public:
  MatricesToPack(std::vector<LayerWeights>& layers, const std::vector<Weight*>& others)
      : layers_(layers), others_(others), experts_(layers.size()) {
    // Experts are shared between copies of their layer; these are packed.
    for (size_t i = 0; i < experts_.size(); ++i) {
      auto& moe = layers_[i].moe;
      if (moe) {
        moe->experts = experts_[i] = std::make_shared<std::vector<MlpWeights>>(*moe->experts);
      }
    }
  }

  template <class Visit, class EndOfLayer>
  void each(const Visit& visit, const EndOfLayer& end_of_layer) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      LayerWeights& l = layers_[i];
      for (LinearWeight* one : {&l.q, &l.k, &l.v, &l.o}) visit(Matrices{&one->weight});
      if (l.mlp) each_of(*l.mlp, visit);
      if (l.moe && l.moe->shared) each_of(*l.moe->shared, visit);
      if (l.moe) visit(Matrices{&l.moe->router.weight});
      if (l.moe) {
        for (MlpWeights& expert : *experts_[i]) each_of(expert, visit);
      }
      end_of_layer();
    }
    for (Weight* other : others_) visit(Matrices{other});
    end_of_layer();
  }

 private:
  template <class Visit>
  static void each_of(MlpWeights& mlp, const Visit& visit) {
    if (mlp.gate) {
      visit(Matrices{&mlp.gate->weight, &mlp.up.weight});
    } else {
      visit(Matrices{&mlp.up.weight});
    }
    visit(Matrices{&mlp.down.weight});
  }

  std::vector<LayerWeights>& layers_;
  const std::vector<Weight*>& others_;
  std::vector<std::shared_ptr<std::vector<MlpWeights>>> experts_;
};

// Bytes of their interleaved form, which begins at a multiple of 64.
int64_t packed_together(const Matrices& matrices) { return (packed_size(matrices) + 63) / 64 * 64; }

// Of a matrix as it lies in its file.
int64_t file_bytes(const cpu::MatrixRef& m) {
  const int64_t scales = m.scales == nullptr ? 0 : m.cols / m.group;
  return m.rows * (m.row_stride + 2 * scales * row_bytes(m.scale_format, 1));
}

}  // namespace

LayerWeights load_layer(const ModelSpec& s, const TensorNames& names, const WeightLoader& load,
                        int32_t i) {
  const int64_t q_rows = int64_t{s.heads} * s.head_dim, kv_rows = int64_t{s.kv_heads} * s.head_dim;
  const auto name = [&](const std::string& module) { return in_layer(module, i); };
  LayerWeights layer{.attn_norm = load.norm(name(names.attn_norm), s.hidden),
                     .mlp_norm = load.norm(name(names.mlp_norm), s.hidden),
                     .q_norm = {},
                     .k_norm = {},
                     .post_attn_norm = {},
                     .post_mlp_norm = {},
                     .q = load.linear(name(names.q), q_rows, s.hidden),
                     .k = load.linear(name(names.k), kv_rows, s.hidden),
                     .v = load.linear(name(names.v), kv_rows, s.hidden),
                     .o = load.linear(name(names.o), s.hidden, q_rows),
                     .mlp = {},
                     .moe = {}};
  if (s.has_experts(i)) {
    layer.moe = load_moe(s, names, load, i);
  } else {
    layer.mlp = load_mlp(s, load, name(names.gate), name(names.up), name(names.down), s.ffn);
  }
  if (s.qk_norm) {
    layer.q_norm = load.norm(name(names.q_norm), s.head_dim);
    layer.k_norm = load.norm(name(names.k_norm), s.head_dim);
  }
  if (s.post_norms) {
    layer.post_attn_norm = load.norm(name(names.post_attn_norm), s.hidden);
    layer.post_mlp_norm = load.norm(name(names.post_mlp_norm), s.hidden);
  }
  return layer;
}

std::vector<LowRankTerms> AddedTerms::to(
    std::initializer_list<std::optional<LoraWeight> AdapterLayer::*> targets) const {
  std::vector<LowRankTerms> terms;
  if (rows.empty()) return terms;
  for (const auto target : targets) {
    LowRankTerms& of_target = terms.emplace_back();
    for (const AdapterRows& use : rows) {
      const auto& weight = use.adapter->layers[static_cast<size_t>(layer)].*target;
      if (!weight) continue;
      of_target.push_back({.a = weight->a,
                           .b = weight->b,
                           .scale = weight->scale * use.scale,
                           .first = use.first,
                           .count = use.count});
    }
  }
  return terms;
}

mx::array attention_block(const ModelSpec& spec, const LayerWeights& layer, int32_t window,
                          const mx::array& x, const std::shared_ptr<const StepPlan>& plan,
                          const KvLayer& kv, const KernelContext& context,
                          const AddedTerms& added) {
  using Targets = AdapterLayer;
  const auto qkv = q_gemm_dequant(x, {&layer.q, &layer.k, &layer.v}, context,
                                  added.to({&Targets::q, &Targets::k, &Targets::v}));
  const RopeParams rope{.heads = spec.heads,
                        .interleaved = spec.rope.interleaved,
                        .angles = window > 0 && spec.window_rope ? 1 : 0,
                        .q_norm = layer.q_norm,
                        .k_norm = layer.k_norm};
  const auto q = rope_kv_pack_store(qkv[0], qkv[1], qkv[2], rope, kv, plan, context);
  const float usual = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  const cpu::AttentionParams params{
      .heads = spec.heads,
      .scale = spec.attention_scale > 0 ? spec.attention_scale : usual,
      .window = window,
      .soft_cap = spec.attention_soft_cap,
      .causal = !spec.encoder};
  return attention_fused(q, params, kv, plan, context);
}

mx::array feed_forward(const ModelSpec& spec, const LayerWeights& layer, const mx::array& x,
                       const KernelContext& context, const AddedTerms& added) {
  return layer.moe ? moe_block(spec, *layer.moe, x, context)
                   : mlp_block(spec, *layer.mlp, x, context, added);
}

int64_t pack_layers(std::vector<LayerWeights>& layers, const std::vector<Weight*>& others,
                    ThreadPool& threads, const std::function<void()>& after_layer) {
  MatricesToPack matrices(layers, others);
  int64_t total = 0;
  matrices.each([&](const Matrices& m) { total += packed_together(m); }, [] {});
  const auto memory = std::make_shared<HugePages>(static_cast<size_t>(total));
  int64_t at = 0;
  matrices.each(
      [&](const Matrices& m) {
        const int64_t size = packed_together(m);
        if (size > 0) pack_weights(m, memory->data() + at, memory, threads);
        at += size;
      },
      after_layer);
  return total;
}

WeightMemory weight_memory(std::vector<LayerWeights> layers,
                           const std::vector<const Weight*>& others,
                           const std::vector<const Weight*>& tables, bool interleave) {
  WeightMemory memory;
  for (const Weight* table : tables) memory.mapped += file_bytes(table->ref);
  const auto is_table = [&](const Weight* w) {
    return std::ranges::any_of(tables, [&](const Weight* t) { return t->ref.data == w->ref.data; });
  };
  std::vector<Weight> copies;
  for (const Weight* other : others) copies.push_back(*other);
  std::vector<Weight*> last;
  for (Weight& copy : copies) last.push_back(&copy);
  MatricesToPack(layers, last)
      .each(
          [&](const Matrices& m) {
            const int64_t size = interleave ? packed_together(m) : 0;
            memory.interleaved += size;
            if (size > 0) return;
            for (const Weight* w : m) memory.mapped += is_table(w) ? 0 : file_bytes(w->ref);
          },
          [] {});
  return memory;
}

}  // namespace mlxr
