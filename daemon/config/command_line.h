// The daemon's flags. Those of settings are made from the table (settings.h).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/settings.h"

namespace mlxr {

struct CommandLine {
  std::optional<std::filesystem::path> config_file;
  std::optional<std::filesystem::path> log_file;
  std::vector<std::string> models;                        // --model, paths or names
  std::map<std::string, std::vector<std::string>> flags;  // setting key -> values
  std::optional<std::string> print_and_exit;              // --help and --version
};

// Throws Error{kInvalidArgument} for what cannot be understood.
CommandLine parse_command_line(int argc, const char* const* argv,
                               const std::vector<Setting>& settings, const std::string& version);

}  // namespace mlxr
