#include "daemon/config/yaml_map.h"

#include <yaml-cpp/yaml.h>

#include <set>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mlxr {
namespace {

std::string place(const std::filesystem::path& path, const YAML::Mark& mark) {
  return path.string() + ":" + std::to_string(mark.line + 1);
}

YamlItem read_item(const std::filesystem::path& path, const YAML::Node& map) {
  YamlItem item;
  item.where = place(path, map.Mark());
  for (const auto& pair : map) {
    if (!pair.first.IsScalar() || !pair.second.IsScalar()) {
      refuse_at(place(path, pair.first.Mark()), "this must be a line of the form \"name: value\"");
    }
    item.values.emplace_back(pair.first.Scalar(), pair.second.Scalar());
  }
  return item;
}

YamlEntry read_entry(const std::filesystem::path& path, const YAML::Node& key,
                     const YAML::Node& value) {
  YamlEntry entry;
  entry.where = place(path, key.Mark());
  if (!key.IsScalar()) {
    refuse_at(entry.where, "a setting's name must be plain text");
  }
  entry.key = key.Scalar();
  if (value.IsScalar()) {
    entry.values = {value.Scalar()};
  } else if (value.IsNull()) {
    refuse_at(entry.where, "\"" + entry.key +
                               "\" has no value; write one after the colon, or remove "
                               "the line to use the default");
  } else if (value.IsSequence()) {
    entry.is_list = true;
    for (const YAML::Node& item : value) {
      const bool is_map = item.IsMap() && entry.values.empty();
      if (!is_map && !(item.IsScalar() && entry.items.empty())) {
        refuse_at(place(path, item.Mark()), "\"" + entry.key + "\" must be a list of plain values");
      }
      if (is_map) {
        entry.items.push_back(read_item(path, item));
      } else {
        entry.values.push_back(item.Scalar());
      }
    }
  } else {
    refuse_at(entry.where, "\"" + entry.key + "\" is a map; it must be a plain value or a list");
  }
  return entry;
}

}  // namespace

void refuse_at(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, where + ": " + what);
}

std::vector<YamlEntry> read_yaml_map(const std::filesystem::path& path) {
  YAML::Node root;
  try {
    root = YAML::Load(read_file(path));
  } catch (const YAML::Exception& error) {
    refuse_at(place(path, error.mark), "this is not YAML: " + error.msg);
  }
  std::vector<YamlEntry> entries;
  if (root.IsNull()) {
    return entries;
  }
  if (!root.IsMap()) {
    refuse_at(place(path, root.Mark()), "the file must hold lines of the form \"setting: value\"");
  }
  std::set<std::string> seen;
  for (const auto& pair : root) {
    entries.push_back(read_entry(path, pair.first, pair.second));
    if (!seen.insert(entries.back().key).second) {
      refuse_at(entries.back().where, "\"" + entries.back().key + "\" is set twice in this file");
    }
  }
  return entries;
}

}  // namespace mlxr
