#include "daemon/scheduler/served_model.h"

namespace mlxr {

SamplingParams with_overrides(SamplingParams params, const ModelSettings& s) {
  if (s.temperature) params.temperature = *s.temperature;
  if (s.top_p) params.top_p = *s.top_p;
  if (s.top_k) params.top_k = *s.top_k;
  if (s.min_p) params.min_p = *s.min_p;
  if (s.repeat_penalty) params.repeat_penalty = *s.repeat_penalty;
  return params;
}

ServedModel::ServedModel(std::unique_ptr<Scheduler> scheduler,
                         std::unique_ptr<AdapterStore> adapters, ServedModelFacts facts)
    : scheduler_(std::move(scheduler)), adapters_(std::move(adapters)), facts_(std::move(facts)) {}

LoadedModelInfo ServedModel::info() const {
  return {.name = facts_.name,
          .path = {},
          .leaving = false,
          .facts = model().facts,
          .context_length = scheduler_->context_length(),
          .kv_bytes = scheduler_->kv_bytes(),
          .stats = scheduler_->stats(),
          .memory = facts_.memory,
          .pinned = facts_.pinned,
          .load_seconds = facts_.load_seconds,
          .repacked_bytes = model().repacked_bytes,
          .repack_seconds = model().repack_seconds,
          .loaded_at = facts_.loaded_at,
          .adapters = adapters_->list(),
          .adapter_bytes = adapters_->bytes()};
}

}  // namespace mlxr
