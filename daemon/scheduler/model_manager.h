// Which models this daemon can serve, and which are loaded: within a limit of memory, the least
// recently used one leaves when another needs its place; where all are in use, when it has
// answered. Names come from: --model paths, the configured model folders and the built-in default;
// a path given as a name is served too when it was configured (HTTP clients cannot make the daemon
// open arbitrary paths).
#pragma once

#include <array>
#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/kv_folders.h"
#include "daemon/scheduler/model_catalog.h"
#include "daemon/scheduler/served_model.h"
#include "daemon/scheduler/unload_reason.h"

namespace mlxr {

struct MemoryStats {
  int64_t limit = 0;     // 0: none
  int64_t reserved = 0;  // by models that are loaded, being loaded, or leaving
  int32_t loading = 0;   // models
  int32_t waiting = 0;   // requests, for models to be loaded
  // Since the daemon was started.
  uint64_t loads = 0, failed_loads = 0;
  uint64_t refused_loads = 0;  // of the failed ones: for want of memory
  std::array<uint64_t, kUnloadReasons.size()> unloads{};
};

// The model was not loaded within the time that a request waits for one. It is still on its way.
class StillLoading : public Error {
 public:
  using Error::Error;
};

struct ModelManagerOptions {
  using Clock = std::chrono::steady_clock;

  int threads = 0;     // 0: usable cores
  bool repack = true;  // interleave quantised weights at load
  SchedulerOptions scheduler;
  EngineOptions engine;
  KvDiskSettings kv_disk;
  std::vector<std::filesystem::path> model_folders;    // scanned for .gguf files and model folders
  std::vector<std::filesystem::path> model_paths;      // served under their base names
  std::optional<std::filesystem::path> default_model;  // the built-in model's file
  std::function<std::vector<ModelEntry>()> created_models;  // may be empty; see CatalogSources

  int64_t memory_bytes = 0;       // of all loaded models, by their estimates; 0: no limit
  int32_t max_loaded_models = 0;  // 0: no limit
  // That an unused model stays, where no request said otherwise; negative: until memory is needed.
  std::chrono::milliseconds keep_alive{-1};
  std::chrono::milliseconds load_timeout{600000};  // that a request waits for a model at most
  std::function<Clock::time_point()> now;          // null: the machine's
};

class ModelLoader;  // model_loader.h

class ModelManager {
 public:
  using Clock = ModelManagerOptions::Clock;
  using SettingsOf = std::function<ModelSettings(const std::string& name)>;

  ModelManager(ModelManagerOptions options, SettingsOf settings);
  // With another loader than that of files.
  ModelManager(ModelManagerOptions options, SettingsOf settings,
               std::unique_ptr<ModelLoader> loader);
  ~ModelManager();

  // Every servable model, sorted by name; folders are scanned anew at each call.
  std::vector<ModelEntry> list() const;
  // Throws Error{kNotFound} with the nearest names. An empty name is the default model. Looks at
  // its files, which may take a while.
  ModelEntry find(const std::string& name) const;

  // Tokens that a sequence of this model may hold here, loaded or not: what the model was trained
  // for, its settings and the KV budget allow.
  int32_t context_length(const std::string& name, const ModelFacts& facts) const;

  // The model where it is in memory, else null.
  std::shared_ptr<ServedModel> acquire_loaded(const ModelEntry& entry);
  // The model, or why there is none: heard once, from this call or on another thread, which must
  // not be blocked. Requests for one model share its load; models load side by side; one whose
  // files were written or replaced is loaded anew. `timeout`: of the request that waits.
  using Heard = std::function<void(std::shared_ptr<ServedModel> model, std::exception_ptr failure)>;
  using WaitId = uint64_t;
  WaitId acquire(const ModelEntry& entry, std::optional<std::chrono::milliseconds> timeout,
                 Heard heard);
  // Who waits hears at once that it was given up; a load that has begun goes on. Harmless later.
  void give_up(WaitId id);
  // Blocks until the model is there.
  std::shared_ptr<ServedModel> acquire(const std::string& name);

  // From now on the model goes when it was not used for `time`, unless it is pinned; negative:
  // never by itself. Until it is loaded anew.
  void keep_alive(const std::string& name, std::chrono::milliseconds time);
  // When it goes if nobody uses it from now on; nothing: not by itself.
  std::optional<Clock::time_point> expires(const std::string& name) const;
  // Unloads what was idle for too long and lets go who waited too long. A thread of the manager
  // calls it in time; tests with a clock of their own call it when they moved that.
  void expire();

  // Also those that were unloaded and still answer; they come last.
  std::vector<LoadedModelInfo> loaded() const;
  // What models of each name have counted since the daemon was started, those that are gone too.
  std::map<std::string, SchedulerStats> counted() const;
  MemoryStats memory() const;
  // The name of what is to be unloaded: as find(), but a model in memory needs no files for it.
  std::string find_in_memory(const std::string& name) const;
  // Stops serving the model; what it takes is free once its requests are done. False when it was
  // not loaded.
  bool unload(const std::string& name);
  // Unloads a model that is no more, and removes its KV blocks on disk: once it has answered.
  void forget(const std::string& name);
  // Gives a model that is held one more adapter, or another in the place of one of its name, when
  // the memory is there: idle models leave for it. Throws Error{kOutOfMemory}, and as AdapterStore.
  void add_adapter(ServedModel& model, const AdapterSettings& adapter);
  void remove_adapter(ServedModel& model, const std::string& name);
  // Registers a path under its base name (the CLI's `mlx run ./x.gguf` through the Unix socket).
  ModelEntry add_path(const std::filesystem::path& path);

  // Refuses new requests and lets the running ones finish until `timeout`.
  void drain(std::chrono::milliseconds timeout);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with models in use, which tell it when they are not
};

}  // namespace mlxr
