// Finds the daemon, and starts it when it is not running.
#pragma once

#include <filesystem>
#include <optional>

#include "cli/client/daemon_client.h"
#include "daemon/config/server_config.h"

namespace mlxr::cli {

// The daemon's own settings as it would read them: $MLXR_HOME/server.yaml, the environment, and
// `socket` as its flag.
ServerConfig daemon_settings(const std::optional<std::filesystem::path>& socket);

// Which daemon: the one that `url` names, else this machine's.
struct DaemonChoice {
  std::optional<std::filesystem::path> socket;
  std::string url;
  std::filesystem::path ca_file;
};

// A running daemon, if there is one. The key for a URL is $MLXR_API_KEY.
std::optional<DaemonClient> find_daemon(const DaemonChoice& choice);
// A running daemon, started now if need be (not one that a URL names). Several callers at once
// start one. Throws Error{kUnavailable} with the daemon's last words when it does not start.
DaemonClient find_or_start_daemon(const DaemonChoice& choice);

}  // namespace mlxr::cli
