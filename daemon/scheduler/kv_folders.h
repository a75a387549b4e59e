// The folder where models' KV blocks outlive the daemon: a secret, and a folder for each model's
// name, opened when the model is loaded. Also what `mlx cache` shows and removes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/engine.h"
#include "core/runtime/kv/kv_disk.h"
#include "daemon/scheduler/open_kv_disks.h"

namespace mlxr {

struct KvDiskSettings {
  bool enabled = false;
  std::filesystem::path folder;
  int64_t bytes = 0;              // that one model's blocks may take
  std::filesystem::path program;  // the file that runs
};

// Opens the blocks of the model called `name`, and names the engine's blocks under their key. Null
// when it is not wanted, or, with a warning in the log, when it cannot be: the model is served all
// the same. Before the engine has any sequence.
std::unique_ptr<KvDisk> open_kv_disk(OpenKvDisks& disks, Engine& engine, const std::string& name,
                                     const KvDiskSettings& settings);

// What one model has on disk.
struct KvFolder {
  std::string name;
  int64_t blocks = 0, bytes = 0;
  int64_t last_use = 0;  // unix seconds; 0: never
  bool in_use = false;   // by a daemon
};

// Sorted by name.
std::vector<KvFolder> list_kv_folders(const std::filesystem::path& folder);
// Removes the blocks of a model. Throws Error{kNotFound} when there are none, Error{kUnavailable}
// when a daemon uses them.
void remove_kv_folder(const std::filesystem::path& folder, const std::string& name);

}  // namespace mlxr
