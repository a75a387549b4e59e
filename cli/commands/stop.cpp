// mlx stop: unloads a model, or ends the daemon.
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "cli/client/daemon_process.h"
#include "cli/client/progress_line.h"
#include "cli/commands/commands.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

using namespace std::chrono_literals;

// A daemon that closes its connections while it ends may still be there.
bool still_there(const DaemonClient& client) {
  try {
    return client.try_get("/health").has_value();
  } catch (const Error&) {
    return true;
  }
}

int stop_daemon(const DaemonClient& client, bool quiet) {
  client.post("/mlxr/v1/shutdown", Json::object());
  const auto start = std::chrono::steady_clock::now();
  std::optional<ProgressLine> progress;
  while (still_there(client)) {
    const auto passed = std::chrono::steady_clock::now() - start;
    if (passed > 500ms && !progress) progress.emplace("the daemon finishes what is running");
    if (passed > 120s)
      throw Error(ErrorCode::kUnavailable, "the daemon has not ended in 2 minutes");
    std::this_thread::sleep_for(20ms);
  }
  if (!quiet) std::printf("The daemon has ended.\n");
  return 0;
}

int stop(const Invocation& invocation, const std::string& model, bool quiet) {
  const auto client = find_daemon(invocation.daemon);
  if (!client) {
    if (!quiet) std::printf("The daemon is not running.\n");
    return 0;
  }
  if (model.empty()) return stop_daemon(*client, quiet);
  const Json reply = client->post("/mlxr/v1/unload", {{"name", model}}, "unloading " + model);
  if (quiet) return 0;
  std::printf(reply.value("unloaded", false) ? "%s is unloaded.\n" : "%s was not loaded.\n",
              model.c_str());
  return 0;
}

}  // namespace

void add_stop(CLI::App& app, Invocation& invocation) {
  auto model = std::make_shared<std::string>();
  auto quiet = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("stop", "Unload a model, or without MODEL end the daemon");
  command->add_option("MODEL", *model, "A loaded model's name");
  command->add_flag("-q,--quiet", *quiet, "Say nothing of what ended");
  command->callback([&invocation, model, quiet] {
    invocation.chosen = [&invocation, model, quiet] { return stop(invocation, *model, *quiet); };
  });
}

}  // namespace mlxr::cli
