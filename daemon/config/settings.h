// The one table of the daemon's settings. YAML keys, environment variables, flags, --help and the
// test that guards configs/server.yaml are all made from it, so they cannot disagree.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "daemon/config/server_config.h"

namespace mlxr {

struct Setting {
  std::string key;       // in YAML; MLXR_<KEY> in the environment, --<key> as a flag
  std::string fallback;  // the default, as one would write it
  std::string help;
  bool list = false;  // takes several values: a YAML list, with separators elsewhere
  // Checks the values (one, unless it is a list) and stores them. Throws BadValue.
  std::function<void(ServerConfig&, const std::vector<std::string>&)> apply;
  char separator = ':';  // of a list in the environment and in a flag

  std::string environment_name() const;  // "MLXR_MAX_QUEUE"
  std::string flag_name() const;         // "--max-queue"
};

// Paths in values may start with $MLXR_HOME, which is `home`.
std::vector<Setting> server_settings(const std::filesystem::path& home);

// Every default applied.
ServerConfig default_config(const std::vector<Setting>& settings);

// 127.*.*.* and ::1: what only this machine's programs reach.
bool is_loopback_address(const std::string& host);

// Splits a list that came from the environment or a flag.
std::vector<std::string> split_list(const std::string& text, char separator);

}  // namespace mlxr
