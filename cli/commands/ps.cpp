// mlx ps: models in memory and what they are doing.
#include <cstdio>
#include <ctime>
#include <memory>

#include "cli/client/daemon_process.h"
#include "cli/commands/commands.h"
#include "cli/text_table.h"

namespace mlxr::cli {
namespace {

std::string table(const Json& body) {
  std::vector<std::vector<std::string>> rows{{"NAME", "QUANTISATION", "WEIGHTS", "CONTEXT",
                                              "KV CACHE", "MEMORY", "RUNNING", "WAITING",
                                              "LOADED"}};
  for (const Json& model : body.at("models")) {
    const double age = std::difftime(std::time(nullptr), model.value("loaded_at", int64_t{0}));
    const std::string kv = human_bytes(model.value("kv_bytes", int64_t{0}));
    const Json sizes = model.value("memory", Json::object());
    const std::string memory = human_bytes(sizes.value("total_bytes", int64_t{0}));
    const int used = model.value("kv_blocks_used", 0), all = model.value("kv_blocks_total", 1);
    rows.push_back({model.value("name", ""), model.value("quantization", ""),
                    human_bytes(model.value("size_bytes", int64_t{0})),
                    std::to_string(model.value("context_length", 0)),
                    kv + " (" + std::to_string(100 * used / std::max(all, 1)) + " % used)",
                    memory + (model.value("pinned", false) ? " pinned" : ""),
                    std::to_string(model.value("running", 0)),
                    std::to_string(model.value("waiting", 0)), human_seconds(age) + " ago"});
  }
  return format_table(rows, {2, 3, 4, 5, 6, 7});
}

// What all of them take, and may.
std::string budget(const Json& body) {
  const Json memory = body.value("memory", Json::object());
  const int64_t limit = memory.value("limit_bytes", int64_t{0});
  if (limit == 0) {
    return "";
  }
  return human_bytes(memory.value("reserved_bytes", int64_t{0})) + " of " + human_bytes(limit) +
         " for models are taken (memory_bytes).\n";
}

}  // namespace

void add_ps(CLI::App& app, Invocation& invocation) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("ps", "Models in memory");
  command->add_flag("--json", *json, "As JSON");
  command->callback([&invocation, json] {
    invocation.chosen = [&invocation, json] {
      const auto client = find_daemon(invocation.daemon);
      const Json body = client ? client->get("/mlxr/v1/ps") : Json{{"models", Json::array()}};
      if (*json) {
        std::printf("%s\n", body.dump(2).c_str());
      } else if (!client) {
        std::printf("The daemon is not running.\n");
      } else {
        std::fputs((table(body) + budget(body)).c_str(), stdout);
      }
      return 0;
    };
  });
}

}  // namespace mlxr::cli
