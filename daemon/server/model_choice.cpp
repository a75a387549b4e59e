#include "daemon/server/model_choice.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest_names.h"
#include "core/base/system_memory.h"
#include "daemon/config/paths.h"
#include "daemon/scheduler/model_catalog.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

// A path is what exists, or what was plainly meant as one.
bool is_path(const std::string& text) {
  return text.find('/') != std::string::npos || text.ends_with(".gguf") || fs::exists(text);
}

[[noreturn]] void refuse_name(const std::string& text, const std::vector<ModelEntry>& entries) {
  std::vector<std::string> names;
  for (const ModelEntry& entry : entries) {
    names.push_back(entry.name);
  }
  const std::vector<std::string> near = nearest_names(text, names, 1);
  throw Error(ErrorCode::kNotFound,
              "there is no model called \"" + text + "\" in the model folders" +
                  (near.empty() ? "" : "; did you mean \"" + near.front() + "\"?"));
}

fs::path resolve(const std::string& text, const ModelManagerOptions& options) {
  if (is_path(text)) {
    const fs::path path = fs::absolute(text).lexically_normal();
    if (!fs::exists(path)) {
      throw Error(ErrorCode::kNotFound, "there is no model file or folder " + path.string());
    }
    return path;
  }
  const std::vector<ModelEntry> entries = list_models({.paths = {},
                                                       .folders = options.model_folders,
                                                       .builtin = options.default_model,
                                                       .created = {},
                                                       .default_name = ""});
  if (const ModelEntry* found = look_up(entries, text)) {
    return found->path;
  }
  refuse_name(text, entries);
}

void add_once(std::vector<fs::path>& paths, const fs::path& path) {
  if (std::find(paths.begin(), paths.end(), path) == paths.end()) {
    paths.push_back(path);
  }
}

}  // namespace

ModelChoice choose_models(const ServerConfig& config, const std::vector<std::string>& models,
                          const fs::path& built_in) {
  ModelChoice choice;
  ModelManagerOptions& options = choice.options;
  options.threads = config.threads;
  options.repack = config.repack;
  options.scheduler = {config.max_batch_tokens, config.max_sequences, config.max_queue,
                       config.target_latency_ms};
  options.scheduler.trace = std::make_shared<Trace>(static_cast<size_t>(config.trace_events));
  options.memory_bytes = config.memory_bytes > 0 ? config.memory_bytes : usable_memory() / 5 * 4;
  options.max_loaded_models = config.max_loaded_models;
  options.keep_alive = std::chrono::seconds(config.keep_alive_s);
  options.load_timeout = std::chrono::seconds(config.load_timeout_s);
  options.engine.memory = options.memory_bytes;
  options.engine.context_length = config.context_length;
  options.engine.kv_bytes = config.kv_bytes;
  options.engine.kv_type = config.kv_type;
  options.kv_disk = {config.kv_disk, config.kv_disk_folder, config.kv_disk_bytes, program_file()};
  options.model_folders = config.model_folders;
  if (fs::exists(built_in)) {
    options.default_model = built_in;
  }
  std::vector<fs::path> named;
  // The manager's default is the first model that was named.
  if (!config.default_model.empty()) {
    add_once(named, resolve(config.default_model, options));
  }
  for (const std::string& text : models) {
    const fs::path path = resolve(text, options);
    add_once(named, path);
    choice.preload.push_back(model_name(path));
  }
  options.model_paths = std::move(named);
  return choice;
}

}  // namespace mlxr
