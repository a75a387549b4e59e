// mlx serve: the daemon in the foreground.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "cli/client/daemon_process.h"
#include "cli/client/spawn_daemon.h"
#include "cli/commands/commands.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

int serve(const Invocation& invocation, const std::vector<std::string>& flags) {
  const std::string program = daemon_program();
  std::vector<std::string> words{program};
  if (invocation.daemon.socket)
    words.insert(words.end(), {"--socket", invocation.daemon.socket->string()});
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Error(ErrorCode::kIo, "cannot start " + program + ": " + std::strerror(errno));
}

}  // namespace

void add_serve(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "serve", "Run the daemon here; its flags are those of mlxrunnerd (mlx serve -- --help)");
  command->fallthrough(false)->allow_extras()->prefix_command();
  command->callback([&invocation, command] {
    std::vector<std::string> flags = command->remaining();
    if (!flags.empty() && flags.front() == "--") flags.erase(flags.begin());
    invocation.chosen = [&invocation, flags] { return serve(invocation, flags); };
  });
}

}  // namespace mlxr::cli
