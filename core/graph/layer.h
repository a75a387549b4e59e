// One layer of a transformer: its weights, and the parts of a step that layers of all kinds share.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/graph/adapter.h"
#include "core/graph/family.h"
#include "core/graph/model_spec.h"
#include "core/graph/weight_loader.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {

struct MoeWeights {
  LinearWeight router;  // [experts, hidden]
  MoeExperts experts;
  std::optional<MlpWeights> shared;
  std::optional<LinearWeight> shared_router;  // [1, hidden]
};

struct LayerWeights {
  // Of [hidden]: before attention and feed-forward block, of an encoder behind them.
  NormWeight attn_norm, mlp_norm;
  std::optional<NormWeight> q_norm, k_norm;  // of [head_dim]
  std::optional<NormWeight> post_attn_norm, post_mlp_norm;
  LinearWeight q, k, v, o;
  std::optional<MlpWeights> mlp;
  std::optional<MoeWeights> moe;  // instead of `mlp`
};

// Throws as WeightLoader does.
LayerWeights load_layer(const ModelSpec& spec, const TensorNames& names, const WeightLoader& load,
                        int32_t layer);

// Interleaves every matrix of `layers`, then each of `others`, for this machine's kernels, all in
// one allocation, in the order that a step reads them. `after_layer` is called now and then, so
// that pages of the file which were read can be let go. Returns the bytes that they take; 0: none
// could be.
int64_t pack_layers(std::vector<LayerWeights>& layers, const std::vector<Weight*>& others,
                    ThreadPool& threads, const std::function<void()>& after_layer);

// What matrices take in memory: those that are interleaved, in memory of our own, and those that
// are used where they lie in the file, whose pages the system can take back and read again.
struct WeightMemory {
  int64_t interleaved = 0, mapped = 0;
};
// As pack_layers would make them, and with `tables`, whose rows are looked up in the file; a matrix
// that is one of them too is mapped once.
WeightMemory weight_memory(std::vector<LayerWeights> layers,
                           const std::vector<const Weight*>& others,
                           const std::vector<const Weight*>& tables, bool interleave);

// What adapters add in one layer to the rows of x.
struct AddedTerms {
  std::span<const AdapterRows> rows = {};
  int32_t layer = 0;

  // A list for each target; none at all where no row has an adapter.
  std::vector<LowRankTerms> to(
      std::initializer_list<std::optional<LoraWeight> AdapterLayer::*> targets) const;
};

// x, normed where the layer norms first, to what attention makes of it before the output product.
mlx::core::array attention_block(const ModelSpec& spec, const LayerWeights& layer, int32_t window,
                                 const mlx::core::array& x,
                                 const std::shared_ptr<const StepPlan>& plan, const KvLayer& kv,
                                 const KernelContext& context, const AddedTerms& added = {});
mlx::core::array feed_forward(const ModelSpec& spec, const LayerWeights& layer,
                              const mlx::core::array& x, const KernelContext& context,
                              const AddedTerms& added = {});

}  // namespace mlxr
