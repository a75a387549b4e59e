// The graph's operations, as free functions on mx::array in MLX's manner. Each is one mx::Primitive
// whose eval_cpu runs the kernels of core/kernels/cpu on the caller's thread pool; on the CPU it is
// evaluated at once (cpu_primitive.h). Activations are float32 [tokens, features].
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/activation.h"
#include "core/kernels/cpu/attention.h"
#include "core/kernels/cpu/moe_routing.h"
#include "core/kernels/primitives/kernel_times.h"
#include "core/kernels/primitives/norm_weight.h"
#include "core/kernels/primitives/step_plan.h"
#include "core/kernels/primitives/weight.h"
#include "mlx/array.h"
#include "mlx/stream.h"

namespace mlxr {

// Where and with which threads a graph runs.
struct KernelContext {
  mlx::core::Stream stream;
  std::shared_ptr<ThreadPool> threads;
  KernelTimes* times = nullptr;  // adds each kernel's time, where given
};

// Rows plan.token_ids of `table`, decoded and times `scale`: [tokens, table.cols].
mlx::core::array embed(const Weight& table, float scale, std::shared_ptr<const StepPlan> plan,
                       const KernelContext& context);

// The sum of each token's rows of tables: tables[0]'s by its id, tables[1]'s by its position, and
// tables[2]'s, where there is one, by its type. [tokens, cols]
mlx::core::array embed_with_places(const std::vector<Weight>& tables,
                                   std::shared_ptr<const StepPlan> plan,
                                   const KernelContext& context);

// Rows of x, [tokens, n], normed.
mlx::core::array norm_fused(const mlx::core::array& x, const NormWeight& weight,
                            const KernelContext& context);

// sum = residual + x, and its norm. One pass, so the sum is normed while it is in the cache.
struct NormedSum {
  mlx::core::array sum, normed;
};
NormedSum add_norm_fused(const mlx::core::array& residual, const mlx::core::array& x,
                         const NormWeight& weight, const KernelContext& context);

// cap * tanh(x / cap).
mlx::core::array soft_cap(const mlx::core::array& x, float cap, const KernelContext& context);

// These rows of x, in order.
mlx::core::array select_rows(const mlx::core::array& x, const std::vector<int32_t>& rows,
                             const KernelContext& context);

// One product a weight, all of the same x, whose activations are quantised once: [tokens, rows].
// A bias is float32 [rows].
struct LinearWeight {
  Weight weight;
  std::optional<mlx::core::array> bias;
};

// scale * b(a(x)), which an adapter adds to a product of the same x in rows [first, first + count):
// before its activation, after its bias. Of float formats: a is [rank, x's columns], b [the
// product's rows, rank].
struct LowRankTerm {
  Weight a, b;
  float scale = 1;
  int32_t first = 0, count = 0;
};
// Of one product, in the order in which they are added. A row's result depends on its own terms
// alone, bit for bit.
using LowRankTerms = std::vector<LowRankTerm>;

// `terms`: a list for each weight, or none at all.
std::vector<mlx::core::array> q_gemm_dequant(const mlx::core::array& x,
                                             const std::vector<const LinearWeight*>& weights,
                                             const KernelContext& context,
                                             std::vector<LowRankTerms> terms = {});

// activation(up(x)): [tokens, up.rows]. `terms`: none, or one list.
mlx::core::array activated_mlp_fused(const mlx::core::array& x, const LinearWeight& up,
                                     cpu::Activation activation, const KernelContext& context,
                                     std::vector<LowRankTerms> terms = {});

// activation(gate(x)) * up(x): [tokens, gate.rows]. SwiGLU with silu, GeGLU with gelu. `terms`:
// none, or a list for the gate and one for up.
mlx::core::array swiglu_mlp_fused(const mlx::core::array& x, const LinearWeight& gate,
                                  const LinearWeight& up, cpu::Activation activation,
                                  const KernelContext& context,
                                  std::vector<LowRankTerms> terms = {});

// A feed-forward block; without a gate it is down(activation(up(x))).
struct MlpWeights {
  std::optional<LinearWeight> gate;
  LinearWeight up, down;
};

// A mixture's feed-forward block: each token's best experts, by its router logits [tokens,
// experts], times their weights. Experts are gated. A token's result depends on the token alone,
// bit for bit: its experts' results are added best first, then `shared`: nothing, or the result of
// an expert that takes all tokens, [tokens, hidden], or that and the logits of its sigmoid gate,
// [tokens, 1].
using MoeExperts = std::shared_ptr<const std::vector<MlpWeights>>;
struct MoeParams {
  cpu::RouterParams router;
  std::optional<mlx::core::array> router_bias;  // float32 [experts], for the choice alone
  cpu::Activation activation = cpu::Activation::kSilu;
};
mlx::core::array moe_grouped_gemm(const mlx::core::array& x, const mlx::core::array& router_logits,
                                  const MoeExperts& experts, const MoeParams& params,
                                  const std::vector<mlx::core::array>& shared,
                                  const KernelContext& context);

// One layer's KV and who keeps it in memory.
struct KvLayer {
  cpu::KvLayerRef ref;
  std::shared_ptr<void> owner;
  bool window = false;  // its blocks are the plan's window_blocks
};

// Rotates q and k by the plan's angles, stores k and v in the layer, returns the rotated q
// [tokens, heads * head_dim]. attention_fused must take that result: it orders the two.
struct RopeParams {
  int32_t heads = 0;
  bool interleaved = false;
  int32_t angles = 0;  // which of the plan's tables
  // Of each head of q and of k before it is rotated: float32 [head_dim].
  std::optional<NormWeight> q_norm, k_norm;
};
mlx::core::array rope_kv_pack_store(const mlx::core::array& q, const mlx::core::array& k,
                                    const mlx::core::array& v, const RopeParams& params,
                                    const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                                    const KernelContext& context);

// Attention of every slice over its own blocks, causal unless params say otherwise: [tokens, heads
// * head_dim]. `sinks` is float32 [heads] (params.sinks is not used).
mlx::core::array attention_fused(const mlx::core::array& q, const cpu::AttentionParams& params,
                                 const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                                 const KernelContext& context,
                                 const std::optional<mlx::core::array>& sinks = std::nullopt);

}  // namespace mlxr
