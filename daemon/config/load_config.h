// Puts the configuration together: built-in defaults, then a file, then the environment, then
// flags. Each later one overrides. Every complaint names where the value stood and what is allowed
// there.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/server_config.h"
#include "daemon/config/settings.h"

namespace mlxr {

struct ConfigSources {
  std::filesystem::path home;                        // $MLXR_HOME
  std::optional<std::filesystem::path> config_file;  // --config; must exist
  // The environment; null for an unset variable.
  std::function<const char*(const std::string& name)> environment;
  std::map<std::string, std::vector<std::string>> flags;  // setting key -> values as typed
};

struct LoadedConfig {
  ServerConfig config;
  std::optional<std::filesystem::path> file;  // the one that was read
};

// The file is --config, else $MLXR_HOME/server.yaml, else none.
// Throws Error{kInvalidArgument, kNotFound}.
LoadedConfig load_config(const ConfigSources& sources);

// Applies one file on top of `config`.
void apply_config_file(ServerConfig& config, const std::vector<Setting>& settings,
                       const std::filesystem::path& file);

}  // namespace mlxr
