// rope_kv_pack_store and attention_fused: everything between the QKV product and the output
// product.
#include "core/kernels/cpu/attention.h"

#include <algorithm>
#include <cstring>

#include "core/kernels/cpu/elementwise.h"
#include "core/kernels/primitives/cpu_primitive.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// One token's query rotated into `q`, its key and value stored.
void store_token(const StepPlan& plan, const StepPlan::Slice& slice, int32_t i,
                 const RopeParams& params, const cpu::KvLayerRef& kv, float* q, float* k,
                 const float* v) {
  const auto token = int64_t{slice.first} + i;
  const int64_t pairs = plan.rotary_pairs;
  const float* cos = plan.cos.data() + token * pairs;
  const float* sin = plan.sin.data() + token * pairs;
  for (int64_t h = 0; h < params.heads; ++h) {
    cpu::rope(q + h * kv.head_dim, cos, sin, pairs, params.interleaved);
  }
  for (int64_t h = 0; h < kv.kv_heads; ++h) {
    cpu::rope(k + h * kv.head_dim, cos, sin, pairs, params.interleaved);
  }
  const int64_t position = slice.position + i;
  const int32_t block = slice.blocks[static_cast<size_t>(position / plan.block_tokens)];
  cpu::kv_store(kv, block, static_cast<int32_t>(position % plan.block_tokens), k, v);
}

class RopeKvStore : public CpuPrimitive {
 public:
  RopeKvStore(const KernelContext& context, const RopeParams& params, KvLayer layer,
              std::shared_ptr<const StepPlan> plan)
      : CpuPrimitive(context.stream),
        threads_(context.threads),
        params_(params),
        layer_(std::move(layer)),
        plan_(std::move(plan)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    allocate(outputs);
    enqueue([threads = threads_, params = params_, layer = layer_, plan = plan_,
             q = floats(inputs[0]), k = floats(inputs[1]), v = floats(inputs[2]),
             out = floats(outputs[0]), q_width = inputs[0].shape(-1),
             kv_width = inputs[1].shape(-1)] {
      const auto store = [&](const StepPlan::Slice& slice, int32_t i) {
        thread_local std::vector<float> key;
        const auto token = int64_t{slice.first} + i;
        key.assign(k + token * kv_width, k + (token + 1) * kv_width);
        float* q_out = out + token * q_width;
        std::memcpy(q_out, q + token * q_width, static_cast<size_t>(q_width) * sizeof(float));
        store_token(*plan, slice, i, params, layer.ref, q_out, key.data(), v + token * kv_width);
      };
      for (const StepPlan::Slice& slice : plan->slices) {
        if (slice.count < 16) {
          for (int32_t i = 0; i < slice.count; ++i) store(slice, i);
          continue;
        }
        threads->parallel_for(slice.count, 8, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) store(slice, static_cast<int32_t>(i));
        });
      }
    });
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
    enqueue([threads = threads_, params = params_, layer = layer_, plan = plan_,
             q = floats(inputs[0]), out = floats(outputs[0]), width = inputs[0].shape(-1)] {
      // A piece of work is up to kChunk queries of one KV head: they share the widened block.
      constexpr int32_t kChunk = 16;
      struct Piece {
        const StepPlan::Slice* slice;
        int32_t begin, kv_head;
      };
      std::vector<Piece> pieces;
      for (const StepPlan::Slice& slice : plan->slices) {
        for (int32_t begin = 0; begin < slice.count; begin += kChunk) {
          for (int32_t h = 0; h < layer.ref.kv_heads; ++h) pieces.push_back({&slice, begin, h});
        }
      }
      const auto run = [&](int64_t first, int64_t last, int) {
        thread_local cpu::AttentionScratch scratch;
        for (int64_t i = first; i < last; ++i) {
          const Piece& p = pieces[static_cast<size_t>(i)];
          const int64_t at = static_cast<int64_t>(p.slice->first + p.begin) * width;
          cpu::attention(layer.ref, params, p.kv_head, q + at, width,
                         std::min(kChunk, p.slice->count - p.begin), p.slice->position + p.begin,
                         p.slice->blocks, out + at, scratch);
        }
      };
      threads->parallel_for(static_cast<int64_t>(pieces.size()), 1, run);
    });
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
  return mx::array(q.shape(), mx::float32,
                   std::make_shared<RopeKvStore>(context, params, layer, std::move(plan)),
                   {q, k, v});
}

mx::array attention_fused(const mx::array& q, const cpu::AttentionParams& params,
                          const KvLayer& layer, std::shared_ptr<const StepPlan> plan,
                          const KernelContext& context) {
  return mx::array(q.shape(), mx::float32,
                   std::make_shared<Attention>(context, params, layer, std::move(plan)), {q});
}

}  // namespace mlxr
