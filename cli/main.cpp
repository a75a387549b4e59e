// mlx: parses the command line, runs one command, and turns every failure into one sentence on
// standard error and a non-zero exit status (1: it failed, 2: the command line was wrong).
#include <clocale>
#include <cstdio>
#include <cstring>
#include <exception>

#include <langinfo.h>

#include "cli/commands/commands.h"
#include "core/base/lost_pages.h"

namespace {

// Text is UTF-8 everywhere; a machine without a locale of its own still edits lines as such.
void use_utf8() {
  std::setlocale(LC_ALL, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  std::setlocale(LC_NUMERIC, "C");
}

int parse_and_run(int argc, char** argv) {
  using namespace mlxr::cli;
  Invocation invocation;
  CLI::App app{"mlx: runs language models on this machine.", "mlx"};
  app.set_version_flag("--version", std::string("mlx ") + MLXR_VERSION);
  app.add_option("--socket", invocation.daemon.socket,
                 "Unix socket of the daemon; without it MLXR_SOCKET, else $MLXR_HOME/mlxr.sock")
      ->option_text("PATH");
  app.add_option("--url", invocation.daemon.url,
                 "A daemon on another machine, such as https://box.example:11435; its API key is "
                 "read from MLXR_API_KEY")
      ->envname("MLXR_URL")
      ->option_text("URL");
  app.add_option(
         "--ca", invocation.daemon.ca_file,
         "PEM file of who signed its certificate; without it, those that this system trusts")
      ->envname("MLXR_CA")
      ->option_text("FILE");
  app.require_subcommand(1);
  app.fallthrough();
  add_run(app, invocation);
  add_list(app, invocation);
  add_show(app, invocation);
  add_ps(app, invocation);
  add_stop(app, invocation);
  add_serve(app, invocation);
  add_key(app, invocation);
  add_cache(app, invocation);
  add_bench(app, invocation);
  add_convert(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool asked = e.get_exit_code() == 0;  // --help, --version
    app.exit(e);
    return asked ? 0 : 2;
  }
  return invocation.chosen();
}

}  // namespace

int main(int argc, char** argv) {
  use_utf8();
  mlxr::survive_lost_pages();
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mlx: %s\n", e.what());
    return 1;
  }
}
