#include "cli/client/private_daemon.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "cli/client/spawn_daemon.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

namespace fs = std::filesystem;

fs::path new_folder() {
  std::string name = (fs::temp_directory_path() / "mlxr-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw Error(ErrorCode::kIo, "cannot make a folder " + name + ": " + std::strerror(errno));
  }
  return name;
}

}  // namespace

PrivateDaemon::PrivateDaemon(std::vector<std::string> flags) : home_(new_folder()) {
  try {
    start(std::move(flags));
  } catch (...) {
    fs::remove_all(home_);
    throw;
  }
}

PrivateDaemon::~PrivateDaemon() {
  stop();
  std::error_code ignored;
  fs::remove_all(home_, ignored);
}

void PrivateDaemon::restart(std::vector<std::string> flags) {
  stop();
  start(std::move(flags));
}

void PrivateDaemon::start(std::vector<std::string> flags) {
  const fs::path log = home_ / "mlxrunnerd.log";
  flags.insert(flags.end(), {"--socket", (home_ / "mlxrunnerd.sock").string(), "--port", "0",
                             "--log-file", log});
  std::vector<std::string> environment = own_environment();
  std::erase_if(environment, [](const std::string& v) {
    return v.starts_with("MLXR_") && !v.starts_with("MLXR_SIMD=");
  });
  environment.push_back("MLXR_HOME=" + home_.string());
  std::error_code none_yet;
  const auto log_size = fs::file_size(log, none_yet);
  pid_ = spawn_daemon(std::move(flags), std::move(environment), log);
  wait_until_ready(client(), pid_, log, none_yet ? 0 : log_size);
}

void PrivateDaemon::stop() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGTERM);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

}  // namespace mlxr::cli
