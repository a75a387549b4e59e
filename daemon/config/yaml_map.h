// A YAML file that holds one map of settings, flat but for lists of small maps, read with the line
// of each entry, so that every complaint can name the place.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace mlxr {

// One map of a list: its scalars in order.
struct YamlItem {
  std::vector<std::pair<std::string, std::string>> values;
  std::string where;  // "path/server.yaml:12"
};

struct YamlEntry {
  std::string key;
  std::vector<std::string> values;  // one for a scalar
  bool is_list = false;
  std::vector<YamlItem> items;  // of a list of maps, which has no values
  std::string where;
};

// Throws Error{kInvalidArgument} for what is not YAML, not a map, nested deeper, or given twice.
std::vector<YamlEntry> read_yaml_map(const std::filesystem::path& path);

// Throws Error{kInvalidArgument}: what is wrong, and where.
[[noreturn]] void refuse_at(const std::string& where, const std::string& what);

}  // namespace mlxr
