// A model that answers requests, and what is said of it: its settings, its facts, its counts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/adapter_store.h"
#include "daemon/scheduler/memory_estimate.h"
#include "daemon/scheduler/scheduler.h"

namespace mlxr {

// Per-model settings (configs/models/*.yaml and flags); absent values fall back to the model's own.
struct ModelSettings {
  std::optional<int32_t> context_length;
  std::optional<int64_t> kv_bytes;
  std::optional<KvType> kv_type;
  std::optional<bool> kv_disk;
  std::optional<int64_t> kv_disk_bytes;
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<int32_t> top_k;
  std::optional<std::string> chat_template;  // Jinja source that replaces the model's own
  std::optional<SpeculationMode> speculation;
  std::optional<std::string> draft_model;    // a name, or a path with a slash
  std::optional<int32_t> speculation_depth;  // the most tokens that are proposed in a step
  std::optional<bool> pin;                   // it leaves only when somebody unloads it
  std::optional<bool> truncate;              // requests that do not say lose what is too long
  std::optional<bool> shift;              // answers of requests that do not say outgrow the window
  std::optional<Pooling> pooling;         // of embeddings
  std::vector<AdapterSettings> adapters;  // their names differ
};

// `params` with what the settings override.
SamplingParams with_overrides(SamplingParams params, const ModelSettings& settings);

struct LoadedModelInfo {
  std::string name;
  std::filesystem::path path;  // its manager fills in this and the next
  bool leaving = false;        // it was unloaded, and ends when it has answered
  ModelFacts facts;
  int32_t context_length = 0;
  int64_t kv_bytes = 0;
  SchedulerStats stats;
  MemoryEstimate memory;
  bool pinned = false;
  double load_seconds = 0;
  int64_t repacked_bytes = 0;  // memory of interleaved weights
  double repack_seconds = 0;   // of load_seconds
  int64_t loaded_at = 0;       // unix seconds
  std::vector<AdapterInfo> adapters;
  int64_t adapter_bytes = 0;  // memory of those that are loaded
};

struct ServedModelFacts {
  std::string name;
  SamplingParams default_sampling;
  MemoryEstimate memory;
  bool pinned = false;
  bool truncates = false;      // ModelSettings::truncate
  std::optional<bool> shifts;  // ModelSettings::shift
  double load_seconds = 0;
  int64_t loaded_at = 0;  // unix seconds
};

// A model that answers requests. Who holds what ModelManager::acquire gave keeps it in memory.
class ServedModel {
 public:
  ServedModel(std::unique_ptr<Scheduler> scheduler, std::unique_ptr<AdapterStore> adapters,
              ServedModelFacts facts);

  const std::string& name() const { return facts_.name; }
  const Model& model() const { return scheduler_->model(); }
  Scheduler& scheduler() { return *scheduler_; }
  const Scheduler& scheduler() const { return *scheduler_; }
  AdapterStore& adapters() { return *adapters_; }
  const SamplingParams& default_sampling() const { return facts_.default_sampling; }
  bool truncates() const { return facts_.truncates; }
  std::optional<bool> shifts() const { return facts_.shifts; }
  LoadedModelInfo info() const;

 private:
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<AdapterStore> adapters_;
  ServedModelFacts facts_;
};

}  // namespace mlxr
