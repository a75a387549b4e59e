// Every command adds itself to the parser and leaves what main then runs in `chosen`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "cli/client/daemon_process.h"

namespace mlxr::cli {

// Shared by all commands.
struct Invocation {
  DaemonChoice daemon;          // --socket, --url, --ca
  std::function<int()> chosen;  // returns the exit status
};

void add_run(CLI::App& app, Invocation& invocation);
void add_serve(CLI::App& app, Invocation& invocation);
void add_list(CLI::App& app, Invocation& invocation);
void add_show(CLI::App& app, Invocation& invocation);
void add_ps(CLI::App& app, Invocation& invocation);
void add_stop(CLI::App& app, Invocation& invocation);
void add_key(CLI::App& app, Invocation& invocation);
void add_cache(CLI::App& app, Invocation& invocation);
void add_bench(CLI::App& app, Invocation& invocation);
void add_convert(CLI::App& app, Invocation& invocation);

}  // namespace mlxr::cli
