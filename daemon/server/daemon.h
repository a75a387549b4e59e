// The daemon as one object: models, HTTP, signals, and the file that tells where it listens.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config/load_config.h"
#include "daemon/server/supervisor.h"

namespace mlxr {

struct DaemonOptions {
  std::filesystem::path home;
  LoadedConfig loaded;
  std::vector<std::string> models;  // --model
  std::string version;
  PassedSockets sockets = {};
};

class Daemon {
 public:
  // Throws Error when a --model does not exist.
  explicit Daemon(DaemonOptions options);
  ~Daemon();

  // Listens and answers until SIGTERM, SIGINT or a shutdown request; then lets running answers end.
  void run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
