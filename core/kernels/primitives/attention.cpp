// rope_kv_pack_store and attention_fused: everything between the QKV product and the output
// product.
#include "core/kernels/cpu/attention.h"

#include <algorithm>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/cpu/kv_store.h"
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// Tokens [begin, end) of a slice: queries rotated to `q_out`, keys and values stored.
struct RopeStore {
  const StepPlan& plan;
  const RopeParams& params;
  const cpu::KvLayerRef& kv;
  bool window;
  const float *q, *k, *v;
  float* q_out;

  void operator()(const StepPlan::Slice& slice, int64_t begin, int64_t end) const {
    thread_local AlignedBuffer<float> buffer;
    const int64_t q_width = int64_t{params.heads} * kv.head_dim;
    const int64_t kv_width = int64_t{kv.kv_heads} * kv.head_dim;
    float* key = buffer.at_least(static_cast<size_t>(kv_width));
    const std::vector<int32_t>& blocks = slice.table(window);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t token = slice.first + i, position = slice.position + i;
      std::copy_n(q + token * q_width, q_width, q_out + token * q_width);
      std::copy_n(k + token * kv_width, kv_width, key);
      turn(q_out + token * q_width, params.heads, params.q_norm, token);
      turn(key, kv.kv_heads, params.k_norm, token);
      const int32_t block = blocks[static_cast<size_t>(position / plan.block_tokens)];
      cpu::kv_store(kv, block, static_cast<int32_t>(position % plan.block_tokens), key,
                    v + token * kv_width);
    }
  }

  // Norms and rotates one token's heads.
  void turn(float* heads, int32_t count, const std::optional<NormWeight>& norm,
            int64_t token) const {
    const StepPlan::Angles& angles = plan.angles[static_cast<size_t>(params.angles)];
    const int64_t pairs = angles.pairs;
    for (int32_t h = 0; h < count; ++h) {
      float* head = heads + int64_t{h} * kv.head_dim;
      if (norm) norm_row(*norm, head, kv.head_dim, head);
      cpu::rope(head, angles.cos.data() + token * pairs, angles.sin.data() + token * pairs, pairs,
                params.interleaved);
    }
  }
};

// A thread takes whole KV blocks: two that store into one would fight for its cache lines.
void rope_store_slice(const StepPlan::Slice& slice, const RopeStore& store, ThreadPool& threads) {
  const int64_t tokens = store.plan.block_tokens;
  if (slice.count < 16) {
    store(slice, 0, slice.count);
    return;
  }
  const int64_t first_block = slice.position / tokens;
  const int64_t last_block = (slice.position + slice.count - 1) / tokens + 1;
  threads.parallel_for(last_block - first_block, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t from = (first_block + begin) * tokens - slice.position;
    const int64_t to = (first_block + end) * tokens - slice.position;
    store(slice, std::max<int64_t>(0, from), std::min<int64_t>(to, slice.count));
  });
}

class RopeKvStore : public CpuPrimitive {
 public:
  RopeKvStore(const KernelContext& context, RopeParams params, KvLayer layer,
              std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        params_(std::move(params)),
        layer_(std::move(layer)),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    const RopeStore store{*plan_,
                          params_,
                          layer_.ref,
                          layer_.window,
                          floats(inputs[0]),
                          floats(inputs[1]),
                          floats(inputs[2]),
                          floats(outputs[0])};
    for (const StepPlan::Slice& slice : plan_->slices) rope_store_slice(slice, store, *threads_);
  }
  const char* name() const override { return "rope_kv_pack_store"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  RopeParams params_;
  KvLayer layer_;
  std::shared_ptr<const StepPlan> plan_;
};

class Attention : public CpuPrimitive {
 public:
  Attention(const KernelContext& context, const cpu::AttentionParams& params, KvLayer layer,
            std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        params_(params),
        layer_(std::move(layer)),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    // Of the engine's thread, kept from call to call: a decode step must not allocate.
    thread_local cpu::AttentionWorkspace workspace;
    thread_local std::vector<cpu::AttentionSequence> sequences;
    sequences.clear();
    for (const StepPlan::Slice& slice : plan_->slices) {
      sequences.push_back({.first = slice.first,
                           .count = slice.count,
                           .position = slice.position,
                           .blocks = slice.table(layer_.window).data()});
    }
    cpu::AttentionParams params = params_;
    params.sinks = inputs.size() > 1 ? floats(inputs[1]) : nullptr;
    cpu::attention(layer_.ref, params, sequences, floats(inputs[0]), inputs[0].shape(-1),
                   floats(outputs[0]), *threads_, workspace);
  }
  const char* name() const override { return "attention_fused"; }

 private:
  std::shared_ptr<ThreadPool> threads_;
  cpu::AttentionParams params_;
  KvLayer layer_;
  std::shared_ptr<const StepPlan> plan_;
};

}  // namespace

mx::array rope_kv_pack_store(const mx::array& q, const mx::array& k, const mx::array& v,
                             const RopeParams& params, const KvLayer& layer,
                             std::shared_ptr<const StepPlan> plan, const KernelContext& context) {
  return run(context, RopeKvStore(context, params, layer, std::move(plan)), {q.shape()},
             {q, k, v})[0];
}

mx::array attention_fused(const mx::array& q, const cpu::AttentionParams& params,
                          const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                          const KernelContext& context, const std::optional<mx::array>& sinks) {
  std::vector<mx::array> inputs{q};
  if (sinks) inputs.push_back(*sinks);
  return run(context, Attention(context, params, layer, std::move(plan)), {q.shape()}, inputs)[0];
}

}  // namespace mlxr
