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

// A running daemon, if there is one.
std::optional<DaemonClient> find_daemon(const std::optional<std::filesystem::path>& socket);
// A running daemon, started now if need be. Several callers at once start one.
// Throws Error{kUnavailable} with the daemon's last words when it does not start.
DaemonClient find_or_start_daemon(const std::optional<std::filesystem::path>& socket);

// The program beside this one.
std::filesystem::path daemon_program();

}  // namespace mlxr::cli
