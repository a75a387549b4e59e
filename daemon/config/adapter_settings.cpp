#include "daemon/config/adapter_settings.h"

#include <algorithm>

#include "core/base/error.h"
#include "daemon/config/paths.h"
#include "daemon/config/value_text.h"
#include "daemon/scheduler/model_catalog.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

fs::path path_of(const std::string& text, const fs::path& folder) {
  const bool expands = text.starts_with("~") || text.starts_with("$");
  return (expands ? expand_path(text, mlxr_home()) : folder / text).lexically_normal();
}

AdapterSettings read_one(const YamlItem& item, const fs::path& folder) {
  AdapterSettings adapter;
  for (const auto& [key, value] : item.values) {
    if (key == "name") {
      adapter.name = value;
    } else if (key == "path") {
      adapter.path = path_of(value, folder);
    } else if (key == "scale") {
      try {
        adapter.scale =
            static_cast<float>(parse_number(value, -kMostAdapterScale, kMostAdapterScale));
      } catch (const BadValue& bad) {
        refuse_at(item.where, "\"scale\" is \"" + value + "\"; it must be " + bad.what());
      }
    } else {
      refuse_at(item.where,
                "an adapter has no setting \"" + key + "\"; it has name, path and scale");
    }
  }
  if (adapter.path.empty()) {
    refuse_at(item.where, "an adapter needs a \"path\": a PEFT folder or a GGUF file");
  }
  if (adapter.name.empty()) {
    adapter.name = model_name(adapter.path);
  }
  return adapter;
}

}  // namespace

std::vector<AdapterSettings> read_adapter_settings(const YamlEntry& entry, const fs::path& folder) {
  if (!entry.is_list || !entry.values.empty()) {
    refuse_at(entry.where,
              "\"adapters\" must be a list of lines of the form \"- {name: tone, path: "
              "/where/it/lies, scale: 1}\"");
  }
  std::vector<AdapterSettings> adapters;
  for (const YamlItem& item : entry.items) {
    AdapterSettings one = read_one(item, folder);
    const bool twice = std::any_of(adapters.begin(), adapters.end(),
                                   [&](const auto& other) { return other.name == one.name; });
    if (twice) {
      refuse_at(item.where,
                "there are two adapters called \"" + one.name + "\"; give one a \"name\"");
    }
    adapters.push_back(std::move(one));
  }
  return adapters;
}

}  // namespace mlxr
