#include "daemon/config/command_line.h"

#include <CLI/CLI.hpp>

#include "core/base/error.h"

namespace mlxr {
namespace {

std::string value_name(const Setting& setting) {
  return setting.fallback.empty() ? "NAME" : setting.fallback;
}

void add_settings(CLI::App& app, const std::vector<Setting>& settings,
                  std::map<std::string, std::vector<std::string>>& flags) {
  for (const Setting& setting : settings) {
    CLI::Option* option = app.add_option_function<std::vector<std::string>>(
        setting.flag_name(),
        [&flags, key = setting.key](const std::vector<std::string>& values) {
          flags[key] = values;
        },
        setting.help + " [" + setting.environment_name() + "]");
    option->expected(1)->option_text("(" + value_name(setting) + ")")->group("Settings");
    option->multi_option_policy(setting.list ? CLI::MultiOptionPolicy::TakeAll
                                             : CLI::MultiOptionPolicy::TakeLast);
  }
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv,
                               const std::vector<Setting>& settings, const std::string& version) {
  CommandLine line;
  std::string config_file;
  std::string log_file;
  CLI::App app{
      "mlxrunnerd: serves models over HTTP and a Unix socket.\n"
      "A setting comes from its flag, else its environment variable, else the "
      "configuration file, else its default (in parentheses).",
      "mlxrunnerd"};
  app.set_version_flag("--version", "mlxrunnerd " + version);
  app.add_option("--config", config_file,
                 "Configuration file; without it $MLXR_HOME/server.yaml is read when it exists")
      ->option_text("FILE");
  app.add_option("--model", line.models,
                 "Load this model at start: a name, or the path of a .gguf file or model folder. "
                 "May be given several times")
      ->option_text("PATH_OR_NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--log-file", log_file, "Append the log to this file instead of standard error")
      ->option_text("FILE");
  add_settings(app, settings, line.flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.print_and_exit = app.help();
  } catch (const CLI::CallForVersion& call) {
    line.print_and_exit = std::string(call.what()) + "\n";
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string(error.what()) + "; mlxrunnerd --help lists the flags");
  }
  if (!config_file.empty()) {
    line.config_file = config_file;
  }
  if (!log_file.empty()) {
    line.log_file = log_file;
  }
  return line;
}

}  // namespace mlxr
