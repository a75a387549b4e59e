#include "core/runtime/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iterator>

#include "core/base/error.h"
#include "core/graph/decoder.h"
#include "core/runtime/adapters/step_adapters.h"
#include "core/runtime/kv/arena.h"
#include "core/runtime/kv/kv_identity.h"
#include "core/runtime/kv/kv_plan.h"
#include "mlx/stream.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// The layers that have blocks apart from the others' (kv_plan.h): those with a window, where it is
// shorter than the context.
std::vector<bool> windowed_layers(const ModelSpec& spec, const KvPlan& plan) {
  std::vector<bool> windowed;
  for (int32_t i = 0; i < plan.shape.layers; ++i) {
    windowed.push_back(plan.window.tokens > 0 && spec.window(i) > 0);
  }
  return windowed;
}

}  // namespace

StepLogits::StepLogits(mx::array values, int32_t rows, int32_t vocab)
    : values_(std::move(values)), rows_(rows), vocab_(vocab) {}

std::span<const float> StepLogits::row(int32_t index) const {
  return {values_->data<float>() + static_cast<int64_t>(index) * vocab_,
          static_cast<size_t>(vocab_)};
}

void StepLogits::set_states(mx::array values, std::vector<int32_t> rows) {
  states_ = std::move(values);
  state_rows_ = std::move(rows);
}

std::span<const float> StepLogits::state(int32_t index) const {
  const auto width = static_cast<int64_t>(states_->shape(-1));
  const int64_t row = state_rows_[static_cast<size_t>(index)];
  return {states_->data<float>() + row * width, static_cast<size_t>(width)};
}

void mark_stored(const SequenceSlice& slice) {
  const auto proposed = static_cast<size_t>(slice.proposed);
  const auto sure = slice.tokens.first(slice.tokens.size() - proposed);
  if (!sure.empty()) slice.kv->advance(sure);
  slice.kv->run_ahead(slice.proposed);
}

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  EngineOptions options;
  std::shared_ptr<ThreadPool> threads;
  int32_t context = 0;
  int64_t arena_bytes = 0;
  std::optional<Pager> pager;
  ArenaShape shape;
  std::vector<KvLayer> layers;
  std::vector<RopeFrequencies> ropes;  // in the order of StepPlan::angles
  std::optional<mx::Stream>
      stream;  // made by the thread that steps: MLX's streams belong to threads
  KernelTimes times;

  void check(std::span<const SequenceSlice> slices) const;
  void check_encoder(const SequenceSlice& slice) const;
  void reserve(std::span<const SequenceSlice> slices) const;
  template <class Body>
  void each_half(BlockId block, Body&& body) const;
  void copy_block(const BlockCopy& copy) const;
  std::vector<int32_t> window_blocks(const KvSequence& kv) const;
  struct Planned {
    std::shared_ptr<const StepPlan> plan;
    std::vector<int32_t> state_rows;  // of plan->result_rows
  };
  Planned plan(std::span<const SequenceSlice> slices) const;
  StepResults compute(const std::shared_ptr<const StepPlan>& plan,
                      std::span<const SequenceSlice> slices, const KernelContext& context);
  void add_angles(StepPlan& plan) const;
};

Engine::Engine(std::shared_ptr<const Model> model, const EngineOptions& options,
               std::shared_ptr<ThreadPool> threads)
    : impl_(std::make_unique<Impl>()) {
  const ModelSpec& spec = model->spec;
  const KvPlan kv = plan_kv(spec, options);
  impl_->context = kv.context;
  impl_->arena_bytes = kv.bytes();
  impl_->pager.emplace(kv.blocks, kv.shape.block_tokens, kv.window);
  impl_->shape = kv.shape;
  impl_->layers = allocate_arena(kv.shape, kv.blocks, kv.window.parts, windowed_layers(spec, kv));
  impl_->ropes.push_back(rope_frequencies(spec.rope, impl_->context));
  if (spec.window_rope) {
    impl_->ropes.push_back(rope_frequencies(*spec.window_rope, impl_->context));
  }
  impl_->model = std::move(model);
  impl_->options = options;
  impl_->threads = std::move(threads);
}

Engine::~Engine() = default;

const Model& Engine::model() const { return *impl_->model; }
int32_t Engine::context_length() const { return impl_->context; }
int64_t Engine::kv_bytes() const { return impl_->arena_bytes; }
Pager& Engine::pager() { return *impl_->pager; }
const KernelTimes& Engine::kernel_times() const { return impl_->times; }
int64_t Engine::block_bytes() const { return impl_->shape.block_bytes(); }

std::string Engine::kv_identity(const std::filesystem::path& program) const {
  return mlxr::kv_identity(*impl_->model, impl_->shape, impl_->ropes, program);
}

// Where a layer's keys of the block are, then its values; layer by layer.
template <class Body>
void Engine::Impl::each_half(BlockId block, Body&& body) const {
  const auto bytes = static_cast<size_t>(shape.half_bytes());
  for (const KvLayer& layer : layers) {
    const int32_t number = layer.window ? pager->parts().of(block) : static_cast<int32_t>(block);
    body(layer.ref.keys(number, 0), bytes);
    body(layer.ref.values(number, 0), bytes);
  }
}

void Engine::save_block(BlockId block, std::span<std::byte> to) const {
  impl_->each_half(block, [&](const uint8_t* half, size_t bytes) {
    std::memcpy(to.data(), half, bytes);
    to = to.subspan(bytes);
  });
}

void Engine::load_block(BlockId block, std::span<const std::byte> from) {
  impl_->each_half(block, [&](uint8_t* half, size_t bytes) {
    std::memcpy(half, from.data(), bytes);
    from = from.subspan(bytes);
  });
}

void Engine::Impl::check(std::span<const SequenceSlice> slices) const {
  const int32_t vocab = model->spec.vocab;
  for (const SequenceSlice& slice : slices) {
    if (slice.kv == nullptr || slice.tokens.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[Engine::step] a slice has no sequence or no tokens");
    }
    const auto size = static_cast<int32_t>(slice.tokens.size());
    if (slice.proposed < 0 || slice.proposed > size ||
        (slice.kv->ahead() > 0 && slice.proposed < size)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[Engine::step] only proposed tokens may follow proposed ones");
    }
    if (slice.end() > context) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[Engine::step] a sequence of " + std::to_string(slice.end()) +
                      " tokens does not fit the context of " + std::to_string(context));
    }
    if (model->spec.encoder) check_encoder(slice);
    for (const ScaledAdapter& scaled : slice.adapters) {
      const auto layers = static_cast<size_t>(model->spec.layers);
      if (!scaled.adapter || scaled.adapter->weights->layers.size() != layers) {
        throw Error(ErrorCode::kInvalidArgument,
                    "[Engine::step] a slice has an adapter of another model");
      }
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

void Engine::Impl::check_encoder(const SequenceSlice& slice) const {
  const bool states = slice.logits == SequenceSlice::Logits::kLastState ||
                      slice.logits == SequenceSlice::Logits::kAllStates;
  if (!states || slice.begin() != 0 || slice.proposed != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "[Engine::step] an encoder reads whole sequences, for their tokens' states");
  }
  if (!slice.token_types.empty() && slice.token_types.size() != slice.tokens.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                "[Engine::step] a slice has " + std::to_string(slice.tokens.size()) +
                    " tokens and " + std::to_string(slice.token_types.size()) + " token types");
  }
  for (int32_t type : slice.token_types) {
    if (type < 0 || type >= std::max(1, model->spec.token_types)) {
      throw Error(ErrorCode::kInvalidArgument, "token type " + std::to_string(type) +
                                                   " is not one of the model's " +
                                                   std::to_string(model->spec.token_types));
    }
  }
}

// All or nothing: blocks are counted before any is taken.
void Engine::Impl::reserve(std::span<const SequenceSlice> slices) const {
  KvNeed wanted;
  for (const SequenceSlice& slice : slices) wanted += slice.kv->to_reserve(slice.end());
  if (!wanted.within(pager->free())) {
    throw Error(ErrorCode::kOutOfMemory, "a step needs " + to_text(wanted) + ", and " +
                                             to_text(pager->free()) + " are free");
  }
  for (const SequenceSlice& slice : slices) {
    if (const auto copy = slice.kv->reserve(slice.end())) copy_block(*copy);
  }
}

void Engine::Impl::copy_block(const BlockCopy& copy) const {
  std::vector<const uint8_t*> from;
  each_half(copy.from, [&](const uint8_t* half, size_t) { from.push_back(half); });
  each_half(copy.to, [&, i = size_t{0}](uint8_t* half, size_t bytes) mutable {
    std::memcpy(half, from[i++], bytes);
  });
}

// The block table of layers with a window.
std::vector<int32_t> Engine::Impl::window_blocks(const KvSequence& kv) const {
  if (pager->window().tokens == 0) return {};
  std::vector<int32_t> parts;
  for (size_t i = 0; i < kv.blocks().size(); ++i) {
    const size_t read = std::max(i, kv.window_begin());
    parts.push_back(pager->parts().of(kv.blocks()[read]));
  }
  return parts;
}

Engine::Impl::Planned Engine::Impl::plan(std::span<const SequenceSlice> slices) const {
  using Logits = SequenceSlice::Logits;
  Planned planned;
  auto plan = std::make_shared<StepPlan>();
  plan->block_tokens = pager->block_tokens();
  for (const SequenceSlice& slice : slices) {
    StepPlan::Slice part;
    part.first = plan->tokens();
    part.count = static_cast<int32_t>(slice.tokens.size());
    part.position = slice.begin();
    std::ranges::transform(slice.kv->blocks(), std::back_inserter(part.blocks),
                           [](BlockId block) { return static_cast<int32_t>(block); });
    part.window_blocks = window_blocks(*slice.kv);
    plan->token_ids.insert(plan->token_ids.end(), slice.tokens.begin(), slice.tokens.end());
    if (model->spec.token_types > 0) {
      plan->token_types.insert(plan->token_types.end(), slice.token_types.begin(),
                               slice.token_types.end());
      plan->token_types.resize(plan->token_ids.size());
    }
    const bool states = slice.logits == Logits::kLastState || slice.logits == Logits::kAllStates;
    const bool all = slice.logits == Logits::kAll || slice.logits == Logits::kAllStates;
    for (int32_t i = 0; i < part.count; ++i) {
      plan->positions.push_back(static_cast<int32_t>(part.position) + i);
      if (slice.logits == Logits::kNone || (!all && i + 1 < part.count)) continue;
      (states ? planned.state_rows : plan->logit_rows)
          .push_back(static_cast<int32_t>(plan->result_rows.size()));
      plan->result_rows.push_back(part.first + i);
    }
    plan->slices.push_back(std::move(part));
  }
  add_angles(*plan);
  planned.plan = std::move(plan);
  return planned;
}

void Engine::Impl::add_angles(StepPlan& plan) const {
  for (const RopeFrequencies& rope : ropes) {
    const size_t pairs = rope.inverse.size();
    StepPlan::Angles angles{.pairs = static_cast<int32_t>(pairs), .cos = {}, .sin = {}};
    angles.cos.reserve(plan.positions.size() * pairs);
    angles.sin.reserve(plan.positions.size() * pairs);
    for (int32_t position : plan.positions) {
      for (double frequency : rope.inverse) {
        const double angle = position * frequency;
        angles.cos.push_back(static_cast<float>(std::cos(angle) * rope.magnitude));
        angles.sin.push_back(static_cast<float>(std::sin(angle) * rope.magnitude));
      }
    }
    plan.angles.push_back(std::move(angles));
  }
}

StepResults Engine::Impl::compute(const std::shared_ptr<const StepPlan>& plan,
                                  std::span<const SequenceSlice> slices,
                                  const KernelContext& context) {
  if (!model->encoder) {
    return decoder_step(model->spec, *model->weights, plan, layers, context,
                        step_adapters(slices, *plan));
  }
  return {.states = encoder_step(model->spec, *model->encoder, plan, layers.front(), context),
          .logits = {}};
}

StepLogits Engine::step(std::span<const SequenceSlice> slices) {
  if (slices.empty()) return {};
  Impl& self = *impl_;
  const auto start = std::chrono::steady_clock::now();
  const auto before = self.times.total();
  self.check(slices);
  self.reserve(slices);
  Impl::Planned planned = self.plan(slices);
  const auto rows = static_cast<int32_t>(planned.plan->logit_rows.size());
  if (!self.stream) self.stream = mx::new_stream(mx::Device(mx::Device::cpu));
  const KernelContext context{*self.stream, self.threads, &self.times};
  StepResults results = self.compute(planned.plan, slices, context);
  check_intact(*self.model);  // before anything of it is kept
  for (const SequenceSlice& slice : slices) mark_stored(slice);
  const auto kernels = self.times.total() - before;
  self.times.add("graph", std::chrono::steady_clock::now() - start - kernels);
  StepLogits out;
  if (results.logits) out = StepLogits(std::move(*results.logits), rows, self.model->spec.vocab);
  if (!planned.state_rows.empty()) {
    out.set_states(std::move(*results.states), std::move(planned.state_rows));
  }
  return out;
}

}  // namespace mlxr
