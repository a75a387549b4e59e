// A YAML file that holds one flat map of settings, read with the line of each entry, so that every
// complaint can name the place.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mlxr {

struct YamlEntry {
  std::string key;
  std::vector<std::string> values;  // one for a scalar
  bool is_list = false;
  std::string where;  // "path/server.yaml:12"
};

// Throws Error{kInvalidArgument} for what is not YAML, not a map, nested, or given twice.
std::vector<YamlEntry> read_yaml_map(const std::filesystem::path& path);

}  // namespace mlxr
