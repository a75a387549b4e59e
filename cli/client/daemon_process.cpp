#include "cli/client/daemon_process.h"

#include <csignal>
#include <cstdlib>

#include "cli/client/spawn_daemon.h"
#include "cli/client/waiting.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/file_lock.h"
#include "daemon/config/load_config.h"
#include "daemon/config/paths.h"

namespace mlxr::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kStopTimeout{60};  // of a daemon that is still finishing its answers

bool answers(const DaemonClient& client) {
  Waiting waiting("waiting for the daemon that is shutting down");
  int status = daemon_health(client);
  while (status == 503 && waiting.passed() < kStopTimeout) {
    waiting.pause();
    status = daemon_health(client);
  }
  return status == 200;
}

DaemonAddress address_of(const DaemonChoice& choice) {
  if (choice.url.empty() || choice.socket) return {daemon_settings(choice.socket).socket};
  if (!choice.url.starts_with("http://") && !choice.url.starts_with("https://")) {
    throw Error(ErrorCode::kInvalidArgument,
                "--url \"" + choice.url + "\" must begin with http:// or https://");
  }
  const char* const key = std::getenv("MLXR_API_KEY");
  DaemonAddress address{.url = choice.url, .ca_file = choice.ca_file, .key = key ? key : ""};
  while (address.url.ends_with('/')) address.url.pop_back();
  return address;
}

}  // namespace

ServerConfig daemon_settings(const std::optional<fs::path>& socket) {
  ConfigSources sources{
      .home = mlxr_home(),
      .config_file = std::nullopt,
      .environment = [](const std::string& name) { return std::getenv(name.c_str()); },
      .flags = {}};
  if (socket) sources.flags["socket"] = {socket->string()};
  return load_config(sources).config;
}

std::optional<DaemonClient> find_daemon(const DaemonChoice& choice) {
  const DaemonClient client(address_of(choice));
  return daemon_health(client) == 0 ? std::nullopt : std::optional(client);
}

DaemonClient find_or_start_daemon(const DaemonChoice& choice) {
  const DaemonAddress address = address_of(choice);
  DaemonClient client(address);
  if (answers(client)) return client;
  if (!address.url.empty()) {
    throw Error(ErrorCode::kUnavailable, "no daemon answers on " + address.url);
  }

  const fs::path home = mlxr_home(), logs = home / "logs", log = logs / "mlxrunnerd.log";
  create_private_folder(home);
  create_private_folder(logs);
  const FileLock one_at_a_time(home / "start.lock");
  if (answers(client)) return client;
  std::error_code none_yet;
  const auto log_size = fs::file_size(log, none_yet);
  const pid_t pid =
      spawn_daemon({"--socket", client.socket(), "--log-file", log}, own_environment(), log);
  wait_until_ready(client, pid, log, none_yet ? 0 : log_size);
  std::signal(SIGCHLD, SIG_IGN);  // if it ends before this program does, it must not stay a zombie
  return client;
}

}  // namespace mlxr::cli
