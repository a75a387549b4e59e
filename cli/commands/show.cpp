// mlx show: what is known of one model.
#include <cstdio>
#include <memory>

#include "cli/client/daemon_process.h"
#include "cli/commands/commands.h"
#include "cli/model_argument.h"
#include "cli/text_table.h"

namespace mlxr::cli {
namespace {

std::string stop_texts(const Json& model) {
  std::string out;
  for (const Json& token : model.value("stop_tokens", Json::array())) {
    out += (out.empty() ? "" : " ") + token.value("text", "");
  }
  return out;
}

std::string sheet(const Json& model) {
  const auto number = [&](const char* key) { return std::to_string(model.value(key, 0)); };
  const bool chat = model.contains("chat_template") && model["chat_template"].is_string();
  std::string out =
      format_table({{"name", model.value("name", "")},
                    {"path", model.value("path", "")},
                    {"format", model.value("format", "")},
                    {"architecture", model.value("architecture", "")},
                    {"quantisation", model.value("quantization", "")},
                    {"size", human_bytes(model.value("size_bytes", int64_t{0}))},
                    {"parameters", human_count(model.value("parameters", int64_t{0}))},
                    {"context", number("context_length") + " tokens"},
                    {"vocabulary", number("vocab_size") + " tokens"},
                    {"hidden size", number("hidden_size")},
                    {"layers", number("layers")},
                    {"stops at", stop_texts(model)},
                    {"chat template", chat ? "yes" : "none: prompts are completed as they are"}});
  if (model.contains("default_sampling")) {
    out += "default sampling  " + model["default_sampling"].dump() + "\n";
  }
  return out;
}

}  // namespace

void add_show(CLI::App& app, Invocation& invocation) {
  struct Options {
    std::string model;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("show", "What is known of a model");
  command->add_option("MODEL", options->model, "A model's name, .gguf file or folder")->required();
  command->add_flag("--json", options->json, "As JSON, the chat template's source included");
  command->callback([&invocation, options] {
    invocation.chosen = [&invocation, options] {
      const DaemonClient client = find_or_start_daemon(invocation.daemon);
      const std::string name = is_model_path_argument(options->model)
                                   ? load_in_daemon(client, options->model)
                                   : options->model;
      const Json model = client.get("/mlxr/v1/models/" + escape_segment(name));
      const std::string text = options->json ? model.dump(2) + "\n" : sheet(model);
      std::fputs(text.c_str(), stdout);
      return 0;
    };
  });
}

}  // namespace mlxr::cli
