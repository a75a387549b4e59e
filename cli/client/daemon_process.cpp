#include "cli/client/daemon_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "cli/client/progress_line.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "daemon/config/load_config.h"
#include "daemon/config/paths.h"

extern char** environ;

namespace mlxr::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kStartTimeout{20};
constexpr seconds kStopTimeout{60};  // of a daemon that is still finishing its answers
constexpr milliseconds kPause{20};
constexpr milliseconds kQuiet{500};

class FileLock {
 public:
  explicit FileLock(const fs::path& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0 || ::flock(fd_, LOCK_EX) != 0) {
      throw Error(ErrorCode::kIo, "cannot lock " + path.string() + ": " + std::strerror(errno));
    }
  }
  ~FileLock() { ::close(fd_); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

std::string last_line(const fs::path& file, size_t from) {
  std::string text = read_file(file);
  text.erase(0, std::min(from, text.size()));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const size_t start = text.rfind('\n');
  return start == std::string::npos ? text : text.substr(start + 1);
}

// Says what is waited for once it has taken half a second.
class Waiting {
 public:
  explicit Waiting(std::string text) : text_(std::move(text)) {}
  milliseconds passed() const {
    return std::chrono::duration_cast<milliseconds>(Clock::now() - start_);
  }
  void pause() {
    if (!line_ && passed() > kQuiet) line_.emplace(text_);
    std::this_thread::sleep_for(kPause);
  }

 private:
  std::string text_;
  Clock::time_point start_ = Clock::now();
  std::optional<ProgressLine> line_;
};

// 200, 503 while it shuts down, or nothing.
int health(const DaemonClient& client) {
  const std::optional<Reply> reply = client.try_get("/health");
  return reply ? reply->status : 0;
}

bool answers(const DaemonClient& client) {
  Waiting waiting("waiting for the daemon that is shutting down");
  int status = health(client);
  while (status == 503 && waiting.passed() < kStopTimeout) {
    waiting.pause();
    status = health(client);
  }
  return status == 200;
}

// Starts the daemon in a session of its own: it outlives this program and its terminal.
pid_t spawn_daemon(const fs::path& socket, const fs::path& log) {
  const std::string program = daemon_program();
  std::vector<std::string> words{program, "--socket", socket, "--log-file", log};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_APPEND | O_CREAT, 0600);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  short flags = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef __APPLE__
  flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#else
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, flags);

  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv.data(), environ);
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
  while (health(client) != 200) {
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
  ::signal(SIGCHLD, SIG_IGN);  // if it ends before this program does, it must not stay a zombie
}

}  // namespace

fs::path daemon_program() { return program_folder() / "mlxrunnerd"; }

ServerConfig daemon_settings(const std::optional<fs::path>& socket) {
  ConfigSources sources{
      .home = mlxr_home(),
      .config_file = std::nullopt,
      .environment = [](const std::string& name) { return std::getenv(name.c_str()); },
      .flags = {}};
  if (socket) sources.flags["socket"] = {socket->string()};
  return load_config(sources).config;
}

std::optional<DaemonClient> find_daemon(const std::optional<fs::path>& socket) {
  DaemonClient client(daemon_settings(socket).socket);
  return health(client) == 0 ? std::nullopt : std::optional(client);
}

DaemonClient find_or_start_daemon(const std::optional<fs::path>& socket) {
  DaemonClient client(daemon_settings(socket).socket);
  if (answers(client)) return client;

  const fs::path home = mlxr_home(), logs = home / "logs", log = logs / "mlxrunnerd.log";
  create_private_folder(home);
  create_private_folder(logs);
  const FileLock one_at_a_time(home / "start.lock");
  if (answers(client)) return client;
  std::error_code none_yet;
  const auto log_size = fs::file_size(log, none_yet);
  const pid_t pid = spawn_daemon(client.socket(), log);
  wait_until_ready(client, pid, log, none_yet ? 0 : log_size);
  return client;
}

}  // namespace mlxr::cli
