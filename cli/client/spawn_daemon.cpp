#include "cli/client/spawn_daemon.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "cli/client/waiting.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "daemon/config/paths.h"

extern char** environ;

namespace mlxr::cli {
namespace {

namespace fs = std::filesystem;
constexpr std::chrono::seconds kStartTimeout{20};

std::string last_line(const fs::path& file, size_t from) {
  std::string text = read_file(file);
  text.erase(0, std::min(from, text.size()));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const size_t start = text.rfind('\n');
  return start == std::string::npos ? text : text.substr(start + 1);
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (std::string& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

fs::path daemon_program() { return program_folder() / "mlxrunnerd"; }

std::vector<std::string> own_environment() {
  std::vector<std::string> out;
  for (char** variable = environ; *variable != nullptr; ++variable) out.emplace_back(*variable);
  return out;
}

int daemon_health(const DaemonClient& client) {
  const std::optional<Reply> reply = client.try_get("/health");
  return reply ? reply->status : 0;
}

pid_t spawn_daemon(std::vector<std::string> flags, std::vector<std::string> environment,
                   const fs::path& log) {
  const std::string program = daemon_program();
  flags.insert(flags.begin(), program);
  const std::vector<char*> argv = pointers(flags), envp = pointers(environment);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_APPEND | O_CREAT, 0600);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  short flag_bits = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef __APPLE__
  flag_bits |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#else
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, flag_bits);

  pid_t pid = 0;
  const int error =
      ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    throw Error(ErrorCode::kUnavailable, "cannot start " + program + ": " + std::strerror(error));
  }
  return pid;
}

void wait_until_ready(const DaemonClient& client, pid_t pid, const fs::path& log,
                      size_t log_start) {
  Waiting waiting("starting mlxrunnerd");
  while (daemon_health(client) != 200) {
    int status = 0;
    const bool ended = ::waitpid(pid, &status, WNOHANG) == pid;
    if (ended || waiting.passed() > kStartTimeout) {
      if (!ended) ::kill(pid, SIGTERM);
      const std::string words = last_line(log, log_start);
      throw Error(ErrorCode::kUnavailable,
                  "mlxrunnerd did not start: " + (words.empty() ? "it said nothing" : words) +
                      " (log: " + log.string() + ")");
    }
    waiting.pause();
  }
}

}  // namespace mlxr::cli
