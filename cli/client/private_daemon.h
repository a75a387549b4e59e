// A daemon of this program's own: its home and socket are a folder that goes with it, so neither
// the user's daemon nor what is kept in ~/.mlxr is touched.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/client/daemon_client.h"

namespace mlxr::cli {

class PrivateDaemon {
 public:
  // Starts it. Throws Error{kUnavailable} with its last words when it does not start.
  explicit PrivateDaemon(std::vector<std::string> flags);
  ~PrivateDaemon();
  PrivateDaemon(const PrivateDaemon&) = delete;
  PrivateDaemon& operator=(const PrivateDaemon&) = delete;

  DaemonClient client() const { return DaemonClient({.socket = home_ / "mlxrunnerd.sock"}); }
  // Ends it as SIGTERM does, and starts it with these flags on what it has kept.
  void restart(std::vector<std::string> flags);

 private:
  void start(std::vector<std::string> flags);
  void stop();

  std::filesystem::path home_;
  pid_t pid_ = 0;
};

}  // namespace mlxr::cli
