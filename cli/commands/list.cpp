// mlx list: every model that can be run.
#include <cstdio>
#include <memory>

#include "cli/client/daemon_process.h"
#include "cli/commands/commands.h"
#include "cli/text_table.h"

namespace mlxr::cli {
namespace {

std::string table(const Json& models) {
  std::vector<std::vector<std::string>> rows{
      {"NAME", "FORMAT", "QUANTISATION", "SIZE", "PARAMS", "CONTEXT", "LOADED"}};
  for (const Json& model : models) {
    const std::string name =
        model.value("name", "") + (model.value("is_default", false) ? " *" : "");
    if (model.contains("error")) {
      rows.push_back({name, "-", "-", "-", "-", "-", model.value("error", "")});
      continue;
    }
    rows.push_back({name, model.value("format", ""), model.value("quantization", ""),
                    human_bytes(model.value("size_bytes", int64_t{0})),
                    human_count(model.value("parameters", int64_t{0})),
                    std::to_string(model.value("context_length", 0)),
                    model.value("loaded", false) ? "yes" : ""});
  }
  return format_table(rows, {3, 4, 5});
}

}  // namespace

void add_list(CLI::App& app, Invocation& invocation) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("list", "Models that can be run (* is the default)");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, json] {
    invocation.chosen = [&invocation, json] {
      const Json body = find_or_start_daemon(invocation.daemon).get("/mlxr/v1/models");
      const std::string text = *json ? body.dump(2) + "\n" : table(body.at("models"));
      std::fputs(text.c_str(), stdout);
      return 0;
    };
  });
}

}  // namespace mlxr::cli
