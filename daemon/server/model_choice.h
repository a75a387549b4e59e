// Which models the daemon is told to serve, from settings and --model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/server_config.h"
#include "daemon/scheduler/model_manager.h"

namespace mlxr {

struct ModelChoice {
  ModelManagerOptions options;
  std::vector<std::string> preload;  // names to load at start
};

// `built_in`: the demo model's file, which need not exist. Throws Error{kNotFound}.
ModelChoice choose_models(const ServerConfig& config, const std::vector<std::string>& models,
                          const std::filesystem::path& built_in);

// The model called `name` in the folders: a folder, or a .gguf file without its ending.
std::optional<std::filesystem::path> find_in_folders(
    const std::string& name, const std::vector<std::filesystem::path>& folders);

}  // namespace mlxr
