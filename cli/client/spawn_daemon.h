// Starts mlxrunnerd as a process of its own.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

// The program beside this one.
std::filesystem::path daemon_program();

// In a session of its own, so that it can outlive this program and its terminal; `environment` are
// its variables, NAME=VALUE. Its output goes to the end of `log`. Throws Error{kUnavailable}.
pid_t spawn_daemon(std::vector<std::string> flags, std::vector<std::string> environment,
                   const std::filesystem::path& log);

// Returns once it answers. Throws Error{kUnavailable} with its last words when it does not: the
// last line of `log` after its first `log_start` bytes.
void wait_until_ready(const DaemonClient& client, pid_t pid, const std::filesystem::path& log,
                      size_t log_start);

// 200, 503 while it shuts down, or 0 for no daemon.
int daemon_health(const DaemonClient& client);

// This program's own variables.
std::vector<std::string> own_environment();

}  // namespace mlxr::cli
