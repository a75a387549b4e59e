// mlxrunnerd: puts configuration, models and HTTP together, and takes them apart in order at the
// end.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "core/base/error.h"
#include "core/base/lost_pages.h"
#include "daemon/config/command_line.h"
#include "daemon/config/load_config.h"
#include "daemon/config/paths.h"
#include "daemon/server/daemon.h"
#include "daemon/server/supervisor.h"
#include "daemon/telemetry/log.h"

namespace {

using namespace mlxr;

constexpr int kExitUsage = 2;  // the configuration or the command line is wrong
constexpr int kExitFailure = 1;

ConfigSources config_sources(const CommandLine& line, const std::filesystem::path& home) {
  return {home, line.config_file,
          [](const std::string& name) -> const char* { return std::getenv(name.c_str()); },
          line.flags};
}

int run(int argc, char** argv) {
  survive_lost_pages();
  const PassedSockets sockets = take_passed_sockets();
  const std::filesystem::path home = mlxr_home();
  const CommandLine line = parse_command_line(argc, argv, server_settings(home), MLXR_VERSION);
  if (line.print_and_exit) {
    std::fputs(line.print_and_exit->c_str(), stdout);
    return 0;
  }
  const LoadedConfig loaded = load_config(config_sources(line, home));
  create_private_folder(home);
  start_logging(loaded.config.log_level, line.log_file);
  if (loaded.file) {
    spdlog::info("settings from {}", loaded.file->string());
  }
  Daemon daemon({home, loaded, line.models, MLXR_VERSION, sockets});
  daemon.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const mlxr::Error& error) {
    std::fprintf(stderr, "mlxrunnerd: %s\n", error.what());
    return error.code() == mlxr::ErrorCode::kInvalidArgument ? kExitUsage : kExitFailure;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mlxrunnerd: %s\n", error.what());
    return kExitFailure;
  }
}
