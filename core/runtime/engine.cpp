#include "core/runtime/engine.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/graph/decoder.h"
#include "core/runtime/kv/arena.h"
#include "mlx/stream.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

int64_t machine_memory() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
}

ArenaShape arena_shape(const ModelSpec& spec, const EngineOptions& options) {
  return {.layers = spec.layers,
          .kv_heads = spec.kv_heads,
          .head_dim = spec.head_dim,
          .block_tokens = options.kv_block_tokens,
          .type = options.kv_type};
}

int64_t blocks_for(int64_t tokens, int32_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

// Four full contexts, but not more than a quarter of the machine.
int64_t default_kv_bytes(const ArenaShape& shape, int64_t context) {
  const int64_t wanted = 4 * blocks_for(context, shape.block_tokens) * shape.block_bytes();
  return std::max(std::min(wanted, machine_memory() / 4), shape.block_bytes());
}

}  // namespace

StepLogits::StepLogits(mx::array values, int32_t rows, int32_t vocab)
    : values_(std::move(values)), rows_(rows), vocab_(vocab) {}

std::span<const float> StepLogits::row(int32_t index) const {
  return {values_->data<float>() + static_cast<int64_t>(index) * vocab_,
          static_cast<size_t>(vocab_)};
}

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  EngineOptions options;
  std::shared_ptr<ThreadPool> threads;
  int32_t context = 0;
  int64_t arena_bytes = 0;
  std::optional<Pager> pager;
  std::vector<KvLayer> layers;
  RopeFrequencies rope;
  std::optional<mx::Stream>
      stream;  // made by the thread that steps: MLX's streams belong to threads

  void check(std::span<const SequenceSlice> slices) const;
  void reserve(std::span<const SequenceSlice> slices) const;
  std::shared_ptr<const StepPlan> plan(std::span<const SequenceSlice> slices) const;
  void add_angles(StepPlan& plan) const;
};

Engine::Engine(std::shared_ptr<const Model> model, const EngineOptions& options,
               std::shared_ptr<ThreadPool> threads)
    : impl_(std::make_unique<Impl>()) {
  const ModelSpec& spec = model->spec;
  if (options.kv_block_tokens != 16 && options.kv_block_tokens != 32) {
    throw Error(ErrorCode::kInvalidArgument, "kv_block_tokens must be 16 or 32");
  }
  const ArenaShape shape = arena_shape(spec, options);
  int64_t context = options.context_length > 0 ? options.context_length : spec.context;
  const int64_t bytes = options.kv_bytes > 0 ? options.kv_bytes : default_kv_bytes(shape, context);
  const int64_t blocks = bytes / shape.block_bytes();
  if (blocks < 1) {
    throw Error(ErrorCode::kOutOfMemory,
                "a KV cache of " + std::to_string(bytes) + " bytes holds no block of " +
                    std::to_string(shape.block_bytes()) + " bytes; set a larger kv_bytes");
  }
  // The window is what the model and the memory allow, fixed here: it never depends on a request.
  context = std::min(context, blocks * shape.block_tokens);
  impl_->context = static_cast<int32_t>(context);
  impl_->arena_bytes = blocks * shape.block_bytes();
  impl_->pager.emplace(static_cast<int32_t>(blocks), shape.block_tokens);
  impl_->layers = allocate_arena(shape, static_cast<int32_t>(blocks));
  impl_->rope = rope_frequencies(spec.rope, impl_->context);
  impl_->model = std::move(model);
  impl_->options = options;
  impl_->threads = std::move(threads);
}

Engine::~Engine() = default;

const Model& Engine::model() const { return *impl_->model; }
int32_t Engine::context_length() const { return impl_->context; }
int64_t Engine::kv_bytes() const { return impl_->arena_bytes; }
Pager& Engine::pager() { return *impl_->pager; }

void Engine::Impl::check(std::span<const SequenceSlice> slices) const {
  const int32_t vocab = model->spec.vocab;
  for (const SequenceSlice& slice : slices) {
    if (slice.kv == nullptr || slice.tokens.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[Engine::step] a slice has no sequence or no tokens");
    }
    const int64_t end = slice.kv->length() + static_cast<int64_t>(slice.tokens.size());
    if (end > context) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[Engine::step] a sequence of " + std::to_string(end) +
                      " tokens does not fit the context of " + std::to_string(context));
    }
    for (int32_t token : slice.tokens) {
      if (token < 0 || token >= vocab) {
        throw Error(ErrorCode::kInvalidArgument, "token " + std::to_string(token) +
                                                     " is outside the vocabulary of " +
                                                     std::to_string(vocab));
      }
    }
  }
}

// All or nothing: blocks are counted before any is taken.
void Engine::Impl::reserve(std::span<const SequenceSlice> slices) const {
  int64_t wanted = 0;
  for (const SequenceSlice& slice : slices) {
    const int64_t end = slice.kv->length() + static_cast<int64_t>(slice.tokens.size());
    const auto held = static_cast<int64_t>(slice.kv->blocks().size());
    wanted += std::max<int64_t>(0, blocks_for(end, pager->block_tokens()) - held);
  }
  if (wanted > pager->free_blocks()) {
    throw Error(ErrorCode::kOutOfMemory, "a step needs " + std::to_string(wanted) +
                                             " KV blocks, and " +
                                             std::to_string(pager->free_blocks()) + " are free");
  }
  for (const SequenceSlice& slice : slices) {
    slice.kv->reserve(slice.kv->length() + static_cast<int64_t>(slice.tokens.size()));
  }
}

std::shared_ptr<const StepPlan> Engine::Impl::plan(std::span<const SequenceSlice> slices) const {
  auto plan = std::make_shared<StepPlan>();
  plan->block_tokens = pager->block_tokens();
  for (const SequenceSlice& slice : slices) {
    StepPlan::Slice part;
    part.first = plan->tokens();
    part.count = static_cast<int32_t>(slice.tokens.size());
    part.position = slice.kv->length();
    part.blocks = slice.kv->blocks();
    plan->token_ids.insert(plan->token_ids.end(), slice.tokens.begin(), slice.tokens.end());
    for (int32_t i = 0; i < part.count; ++i) {
      plan->positions.push_back(static_cast<int32_t>(part.position) + i);
      const bool last = i + 1 == part.count;
      if (slice.logits == SequenceSlice::Logits::kAll ||
          (slice.logits == SequenceSlice::Logits::kLast && last)) {
        plan->logit_rows.push_back(part.first + i);
      }
    }
    plan->slices.push_back(std::move(part));
  }
  add_angles(*plan);
  return plan;
}

void Engine::Impl::add_angles(StepPlan& plan) const {
  const size_t pairs = rope.inverse.size();
  plan.rotary_pairs = static_cast<int32_t>(pairs);
  plan.cos.reserve(plan.positions.size() * pairs);
  plan.sin.reserve(plan.positions.size() * pairs);
  for (int32_t position : plan.positions) {
    for (double frequency : rope.inverse) {
      const double angle = position * frequency;
      plan.cos.push_back(static_cast<float>(std::cos(angle) * rope.magnitude));
      plan.sin.push_back(static_cast<float>(std::sin(angle) * rope.magnitude));
    }
  }
}

StepLogits Engine::step(std::span<const SequenceSlice> slices) {
  if (slices.empty()) return {};
  Impl& self = *impl_;
  self.check(slices);
  self.reserve(slices);
  auto plan = self.plan(slices);
  const auto rows = static_cast<int32_t>(plan->logit_rows.size());
  if (!self.stream) self.stream = mx::new_stream(mx::Device(mx::Device::cpu));
  const KernelContext context{*self.stream, self.threads};
  auto logits = decoder_step(self.model->spec, *self.model->weights, plan, self.layers, context);
  for (const SequenceSlice& slice : slices) {
    slice.kv->advance(static_cast<int64_t>(slice.tokens.size()));
  }
  return logits ? StepLogits(std::move(*logits), rows, self.model->spec.vocab) : StepLogits();
}

}  // namespace mlxr
