#include "daemon/config/load_config.h"

#include <algorithm>

#include "core/base/error.h"
#include "daemon/config/value_text.h"
#include "daemon/config/yaml_map.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

void apply_values(ServerConfig& config, const Setting& setting, const std::string& where,
                  const std::vector<std::string>& values) {
  try {
    setting.apply(config, values);
    config.given.insert(setting.key);
  } catch (const BadValue& bad) {
    throw Error(ErrorCode::kInvalidArgument, where + ": \"" + setting.key + "\" is \"" +
                                                 join(values, ", ") + "\"; it must be " +
                                                 bad.what());
  }
}

std::vector<std::string> keys_of(const std::vector<Setting>& settings) {
  std::vector<std::string> keys;
  for (const Setting& setting : settings) {
    keys.push_back(setting.key);
  }
  return keys;
}

void apply_environment(ServerConfig& config, const std::vector<Setting>& settings,
                       const ConfigSources& sources) {
  for (const Setting& setting : settings) {
    const char* value = sources.environment(setting.environment_name());
    if (value != nullptr && *value != '\0') {
      apply_values(
          config, setting, setting.environment_name(),
          setting.list ? split_list(value, setting.separator) : std::vector<std::string>{value});
    }
  }
}

void apply_flags(ServerConfig& config, const std::vector<Setting>& settings,
                 const ConfigSources& sources) {
  for (const Setting& setting : settings) {
    const auto given = sources.flags.find(setting.key);
    if (given == sources.flags.end()) {
      continue;
    }
    std::vector<std::string> values;
    for (const std::string& text : given->second) {
      const auto parts =
          setting.list ? split_list(text, setting.separator) : std::vector<std::string>{text};
      values.insert(values.end(), parts.begin(), parts.end());
    }
    apply_values(config, setting, setting.flag_name(), values);
  }
}

std::optional<fs::path> choose_file(const ConfigSources& sources) {
  if (sources.config_file) {
    if (!fs::exists(*sources.config_file)) {
      throw Error(ErrorCode::kNotFound,
                  "--config: there is no file " + sources.config_file->string());
    }
    return sources.config_file;
  }
  const fs::path usual = sources.home / "server.yaml";
  return fs::exists(usual) ? std::optional(usual) : std::nullopt;
}

}  // namespace

void apply_config_file(ServerConfig& config, const std::vector<Setting>& settings,
                       const fs::path& file) {
  for (const YamlEntry& entry : read_yaml_map(file)) {
    const auto setting = std::find_if(settings.begin(), settings.end(),
                                      [&](const Setting& s) { return s.key == entry.key; });
    if (setting == settings.end()) {
      const std::vector<std::string> keys = keys_of(settings);
      const std::string near = nearest_name(entry.key, keys);
      throw Error(ErrorCode::kInvalidArgument,
                  entry.where + ": unknown setting \"" + entry.key + "\"" +
                      (near.empty() ? "" : "; did you mean \"" + near + "\"?") +
                      " The settings are: " + join(keys, ", "));
    }
    if (entry.is_list && !setting->list) {
      throw Error(ErrorCode::kInvalidArgument,
                  entry.where + ": \"" + entry.key + "\" is a list; it must be one value");
    }
    if (!entry.items.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  entry.where + ": \"" + entry.key + "\" must be a list of plain values");
    }
    apply_values(config, *setting, entry.where, entry.values);
  }
}

LoadedConfig load_config(const ConfigSources& sources) {
  const std::vector<Setting> settings = server_settings(sources.home);
  LoadedConfig loaded{default_config(settings), choose_file(sources)};
  if (loaded.file) {
    apply_config_file(loaded.config, settings, *loaded.file);
  }
  apply_environment(loaded.config, settings, sources);
  apply_flags(loaded.config, settings, sources);
  return loaded;
}

}  // namespace mlxr
