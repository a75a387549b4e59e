// Which models the daemon is told to serve, from settings and --model.
#pragma once

#include <filesystem>
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

}  // namespace mlxr
