// mlx convert: a Hugging Face or MLX folder to one GGUF file.
#include "core/runtime/convert.h"

#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands/commands.h"
#include "cli/text_table.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

struct Options {
  std::filesystem::path source, destination;
  std::string type = "q8_0";
  bool force = false;
};

int convert(const Options& options) {
  const auto format = quant_format_by_name(options.type);
  if (!format) {
    throw Error(ErrorCode::kInvalidArgument, "there is no weight format \"" + options.type +
                                                 "\"; --type takes one of " + writable_formats());
  }
  if (!options.force && std::filesystem::exists(options.destination)) {
    throw Error(ErrorCode::kInvalidArgument,
                options.destination.string() + " exists already; --force replaces it");
  }
  const ConvertReport report = convert_to_gguf(options.source, options.destination, *format);
  std::printf("%s: %lld tensors, %s\n", options.destination.c_str(),
              static_cast<long long>(report.tensors), human_bytes(report.bytes).c_str());
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Make a GGUF file of a model folder");
  command->add_option("SOURCE", options->source, "Folder with config.json and safetensors")
      ->required();
  command->add_option("DEST", options->destination, "The .gguf file to write")->required();
  command->add_option("--type", options->type, "Weight format: " + writable_formats())
      ->option_text("TYPE (q8_0)");
  command->add_flag("--force", options->force, "Replace DEST if it exists");
  command->callback(
      [&invocation, options] { invocation.chosen = [options] { return convert(*options); }; });
}

}  // namespace mlxr::cli
