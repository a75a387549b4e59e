#include "daemon/scheduler/model_catalog.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/nearest_names.h"
#include "core/runtime/model.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

void search(const fs::path& folder, int depth, std::vector<fs::path>& found) {
  for (const fs::path& path : sorted_entries(folder)) {
    std::error_code error;
    if (is_model_path(path)) {
      found.push_back(path);
    } else if (depth > 0 && fs::is_directory(path, error)) {
      search(path, depth - 1, found);
    }
  }
}

}  // namespace

std::string model_name(const fs::path& path) {
  fs::path clean = path.lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();
  return clean.extension() == ".gguf" ? clean.stem().string() : clean.filename().string();
}

std::vector<ModelEntry> list_models(const CatalogSources& sources) {
  std::map<std::string, ModelEntry> by_name;
  const auto add = [&](const fs::path& path) {
    const std::string name = model_name(path);
    by_name.emplace(name, ModelEntry{name, path, false});
  };
  for (const fs::path& path : sources.paths) add(path);
  for (const fs::path& folder : sources.folders) {
    std::vector<fs::path> found;
    search(folder, 1, found);
    for (const fs::path& path : found) add(path);
  }
  if (sources.builtin) add(*sources.builtin);
  for (const ModelEntry& entry : sources.created) by_name.emplace(entry.name, entry);

  std::vector<ModelEntry> out;
  for (auto& [name, entry] : by_name) {
    entry.is_default = name == sources.default_name;
    out.push_back(std::move(entry));
  }
  return out;
}

std::string untagged(const std::string& name) {
  constexpr std::string_view kLatest = ":latest";
  return name.size() > kLatest.size() && name.ends_with(kLatest)
             ? name.substr(0, name.size() - kLatest.size())
             : name;
}

const ModelEntry* look_up(const std::vector<ModelEntry>& entries, const std::string& name) {
  for (const std::string& one : {name, untagged(name)}) {
    const auto found = std::ranges::find(entries, one, &ModelEntry::name);
    if (found != entries.end()) return &*found;
  }
  return nullptr;
}

ModelEntry find_model(const std::vector<ModelEntry>& entries, const std::string& name) {
  if (name.empty()) {
    const auto found = std::ranges::find(entries, true, &ModelEntry::is_default);
    if (found != entries.end()) return *found;
    throw Error(ErrorCode::kNotFound, "the request names no model, and there is no default");
  }
  if (const ModelEntry* found = look_up(entries, name)) return *found;
  std::vector<std::string> names;
  for (const ModelEntry& entry : entries) names.push_back(entry.name);
  std::string message = "there is no model \"" + name + "\"";
  const auto near = nearest_names(name, names, 3);
  for (size_t i = 0; i < near.size(); ++i) {
    message += (i == 0 ? "; did you mean \"" : "\" or \"") + near[i];
  }
  throw Error(ErrorCode::kNotFound,
              message + (near.empty() ? "; `mlx list` shows what there is" : "\"?"));
}

}  // namespace mlxr
