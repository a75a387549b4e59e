// The graph's operations, as free functions on mx::array in MLX's manner. Each is one mx::Primitive
// whose eval_cpu runs the kernels of core/kernels/cpu on the caller's thread pool. Activations are
// float32 [tokens, features].
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/attention.h"
#include "core/kernels/primitives/step_plan.h"
#include "core/kernels/primitives/weight.h"
#include "mlx/array.h"
#include "mlx/stream.h"

namespace mlxr {

// Where and with which threads a graph runs.
struct KernelContext {
  mlx::core::Stream stream;
  std::shared_ptr<ThreadPool> threads;
};

// Rows plan.token_ids of `table`, decoded: [tokens, table.cols].
mlx::core::array embed(const Weight& table, std::shared_ptr<const StepPlan> plan,
                       const KernelContext& context);

// x / rms(x) * weight, over rows of x: [tokens, n]. `weight` is float32 [n].
mlx::core::array rmsnorm_fused(const mlx::core::array& x, const mlx::core::array& weight, float eps,
                               const KernelContext& context);

// sum = residual + x, and its norm. One pass, so the sum is normed while it is in the cache.
struct NormedSum {
  mlx::core::array sum, normed;
};
NormedSum add_rmsnorm_fused(const mlx::core::array& residual, const mlx::core::array& x,
                            const mlx::core::array& weight, float eps,
                            const KernelContext& context);

// One product a weight, all of the same x, whose activations are quantised once: [tokens, rows].
// A bias is float32 [rows].
struct LinearWeight {
  Weight weight;
  std::optional<mlx::core::array> bias;
};
std::vector<mlx::core::array> q_gemm_dequant(const mlx::core::array& x,
                                             const std::vector<const LinearWeight*>& weights,
                                             const KernelContext& context);

// silu(gate(x)) * up(x): [tokens, gate.rows].
mlx::core::array swiglu_mlp_fused(const mlx::core::array& x, const LinearWeight& gate,
                                  const LinearWeight& up, const KernelContext& context);

// One layer's KV and who keeps it in memory.
struct KvLayer {
  cpu::KvLayerRef ref;
  std::shared_ptr<void> owner;
};

// Rotates q and k by the plan's angles, stores k and v in the layer, returns the rotated q
// [tokens, heads * head_dim]. attention_fused must take that result: it orders the two.
struct RopeParams {
  int32_t heads = 0;
  bool interleaved = false;
};
mlx::core::array rope_kv_pack_store(const mlx::core::array& q, const mlx::core::array& k,
                                    const mlx::core::array& v, const RopeParams& params,
                                    const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                                    const KernelContext& context);

// Causal attention of every slice over its own blocks: [tokens, heads * head_dim]. `sinks` is
// float32 [heads] (params.sinks is not used).
mlx::core::array attention_fused(const mlx::core::array& q, const cpu::AttentionParams& params,
                                 const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                                 const KernelContext& context,
                                 const std::optional<mlx::core::array>& sinks = std::nullopt);

}  // namespace mlxr
