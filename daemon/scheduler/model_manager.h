// Which models this daemon can serve, and which are loaded. Names come from: --model paths, the
// configured model folders and the built-in default; a path given as a name is served too when it
// was configured (HTTP clients cannot make the daemon open arbitrary paths).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/model_catalog.h"
#include "daemon/scheduler/scheduler.h"

namespace mlxr {

// Per-model settings (configs/models/*.yaml and flags); absent values fall back to the model's own.
struct ModelSettings {
  std::optional<int32_t> context_length;
  std::optional<int64_t> kv_bytes;
  std::optional<KvType> kv_type;
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<int32_t> top_k;
  std::optional<std::string> chat_template;  // Jinja source that replaces the model's own
};

// `params` with what the settings override.
SamplingParams with_overrides(SamplingParams params, const ModelSettings& settings);

struct LoadedModelInfo {
  std::string name;
  ModelFacts facts;
  int32_t context_length = 0;
  int64_t kv_bytes = 0;
  SchedulerStats stats;
  double load_seconds = 0;
  int64_t repacked_bytes = 0;  // memory of interleaved weights
  double repack_seconds = 0;   // of load_seconds
  int64_t loaded_at = 0;       // unix seconds
};

// A model that answers requests. Held by shared_ptr while a request uses it; unloading waits for
// that.
class ServedModel {
 public:
  ServedModel(std::string name, std::unique_ptr<Scheduler> scheduler, SamplingParams defaults,
              double load_seconds, int64_t loaded_at);

  const std::string& name() const { return name_; }
  const Model& model() const { return scheduler_->model(); }
  Scheduler& scheduler() { return *scheduler_; }
  const SamplingParams& default_sampling() const { return defaults_; }
  LoadedModelInfo info() const;

 private:
  std::string name_;
  std::unique_ptr<Scheduler> scheduler_;
  SamplingParams defaults_;
  double load_seconds_;
  int64_t loaded_at_;
};

struct ModelManagerOptions {
  int threads = 0;     // 0: usable cores
  bool repack = true;  // interleave quantised weights at load
  SchedulerOptions scheduler;
  EngineOptions engine;
  std::vector<std::filesystem::path> model_folders;    // scanned for .gguf files and model folders
  std::vector<std::filesystem::path> model_paths;      // served under their base names
  std::optional<std::filesystem::path> default_model;  // the built-in model's file
};

class ModelManager {
 public:
  ModelManager(ModelManagerOptions options,
               std::function<ModelSettings(const std::string& name)> settings);
  ~ModelManager();

  // Every servable model, sorted by name; folders are scanned anew at each call.
  std::vector<ModelEntry> list() const;
  // Throws Error{kNotFound} with the nearest names. An empty name is the default model.
  ModelEntry find(const std::string& name) const;

  // The model, loaded if need be (blocks; concurrent callers of one model share the load).
  std::shared_ptr<ServedModel> acquire(const std::string& name);
  std::vector<LoadedModelInfo> loaded() const;
  // Stops serving the model once its requests are done. False when it was not loaded.
  bool unload(const std::string& name);
  // Registers a path under its base name (the CLI's `mlx run ./x.gguf` through the Unix socket).
  ModelEntry add_path(const std::filesystem::path& path);

  // Refuses new requests and lets the running ones finish until `timeout`.
  void drain(std::chrono::milliseconds timeout);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
