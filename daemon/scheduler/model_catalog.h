// The names under which models can be asked for, found anew in the file system at each call.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mlxr {

struct ModelEntry {
  std::string name;
  std::filesystem::path path;
  bool is_default = false;  // served when a request names no model
  std::string stamp = {};   // file_stamp() of its files, where somebody has looked
};

// The name that a path is served under: its base name, without ".gguf".
std::string model_name(const std::filesystem::path& path);

// Ollama's clients add ":latest" to a name without a tag: it is the same model. The name without
// that.
std::string untagged(const std::string& name);

struct CatalogSources {
  std::vector<std::filesystem::path> paths;    // named outright
  std::vector<std::filesystem::path> folders;  // searched two levels deep
  std::optional<std::filesystem::path> builtin;
  std::vector<ModelEntry> created;  // other names of weights that lie anywhere
  std::string default_name;
};

// Sorted by name. A name that occurs twice goes to the earlier source: paths, folders, the built-in
// model, created ones; inside a folder, to the first path in order.
std::vector<ModelEntry> list_models(const CatalogSources& sources);

// The entry of this name, or of this name without ":latest"; null when there is none.
const ModelEntry* look_up(const std::vector<ModelEntry>& entries, const std::string& name);

// The same; an empty name is the default model. Throws Error{kNotFound} with the nearest names.
ModelEntry find_model(const std::vector<ModelEntry>& entries, const std::string& name);

}  // namespace mlxr
