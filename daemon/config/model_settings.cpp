#include "daemon/config/model_settings.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "core/base/error.h"
#include "daemon/config/adapter_settings.h"
#include "daemon/config/paths.h"
#include "daemon/config/value_text.h"
#include "daemon/config/yaml_map.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

struct ModelSetting {
  std::string key;
  std::function<void(ModelSettings&, const std::string&)> apply;
};

ModelSetting number(std::string key, double lowest, double highest,
                    std::optional<float> ModelSettings::*member) {
  return {std::move(key), [=](ModelSettings& settings, const std::string& text) {
            settings.*member = static_cast<float>(parse_number(text, lowest, highest));
          }};
}

ModelSetting integer(std::string key, int64_t lowest, int64_t highest,
                     std::optional<int32_t> ModelSettings::*member) {
  return {std::move(key), [=](ModelSettings& settings, const std::string& text) {
            settings.*member = static_cast<int32_t>(parse_integer(text, lowest, highest));
          }};
}

const std::vector<ModelSetting>& table() {
  static const std::vector<ModelSetting> settings{
      integer("context_length", 1, kMaxInt, &ModelSettings::context_length),
      {"kv_bytes", [](ModelSettings& settings,
                      const std::string& text) { settings.kv_bytes = parse_bytes(text); }},
      {"kv_type", [](ModelSettings& settings,
                     const std::string& text) { settings.kv_type = parse_kv_type(text); }},
      {"kv_disk", [](ModelSettings& settings,
                     const std::string& text) { settings.kv_disk = parse_boolean(text); }},
      {"kv_disk_bytes",
       [](ModelSettings& settings, const std::string& text) {
         settings.kv_disk_bytes = parse_bytes(text);
       }},
      number("temperature", 0, 2, &ModelSettings::temperature),
      number("top_p", 0, 1, &ModelSettings::top_p),
      number("min_p", 0, 1, &ModelSettings::min_p),
      integer("top_k", 0, kMaxInt, &ModelSettings::top_k),
      number("repeat_penalty", 0.01, 10, &ModelSettings::repeat_penalty),
      {"speculation",
       [](ModelSettings& settings, const std::string& text) {
         const std::string mode = parse_choice(text, {"off", "ngram", "draft"});
         settings.speculation = mode == "off"     ? SpeculationMode::kOff
                                : mode == "ngram" ? SpeculationMode::kNgram
                                                  : SpeculationMode::kDraft;
       }},
      {"draft_model",
       [](ModelSettings& settings, const std::string& text) { settings.draft_model = text; }},
      integer("speculation_depth", 1, 64, &ModelSettings::speculation_depth),
      {"pin", [](ModelSettings& settings,
                 const std::string& text) { settings.pin = parse_boolean(text); }},
      {"truncation",
       [](ModelSettings& settings, const std::string& text) {
         settings.truncate = parse_choice(text, {"auto", "disabled"}) == "auto";
       }},
      {"context_shift", [](ModelSettings& settings,
                           const std::string& text) { settings.shift = parse_boolean(text); }},
      {"pooling",
       [](ModelSettings& settings, const std::string& text) {
         settings.pooling = pooling_of(parse_choice(text, {"mean", "cls", "last", "rank"}));
       }},
      {"chat_template",
       [](ModelSettings& settings, const std::string& text) { settings.chat_template = text; }},
  };
  return settings;
}

[[noreturn]] void refuse_unknown(const YamlEntry& entry) {
  const std::vector<std::string> keys = model_setting_keys();
  const std::string near = nearest_name(entry.key, keys);
  throw Error(ErrorCode::kInvalidArgument,
              entry.where + ": unknown model setting \"" + entry.key + "\"" +
                  (near.empty() ? "" : "; did you mean \"" + near + "\"?") +
                  " The settings are: " + join(keys, ", "));
}

// A model's name comes from a request; only a plain name may become a part of a path.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

std::vector<std::string> model_setting_keys() {
  std::vector<std::string> keys;
  for (const ModelSetting& setting : table()) {
    keys.push_back(setting.key);
  }
  keys.emplace_back(kAdaptersKey);
  return keys;
}

ModelSettings read_model_settings(const fs::path& file) {
  ModelSettings settings;
  for (const YamlEntry& entry : read_yaml_map(file)) {
    if (entry.key == kAdaptersKey) {
      settings.adapters = read_adapter_settings(entry, file.parent_path());
      continue;
    }
    const auto known = std::find_if(table().begin(), table().end(),
                                    [&](const ModelSetting& s) { return s.key == entry.key; });
    if (known == table().end()) {
      refuse_unknown(entry);
    }
    if (entry.is_list) {
      throw Error(ErrorCode::kInvalidArgument,
                  entry.where + ": \"" + entry.key + "\" is a list; it must be one value");
    }
    try {
      known->apply(settings, entry.values.at(0));
    } catch (const BadValue& bad) {
      throw Error(ErrorCode::kInvalidArgument, entry.where + ": \"" + entry.key + "\" is \"" +
                                                   entry.values.at(0) + "\"; it must be " +
                                                   bad.what());
    }
  }
  return settings;
}

ModelSettingsFinder::ModelSettingsFinder(std::vector<fs::path> folders, More more)
    : folders_(std::move(folders)), more_(std::move(more)) {}

ModelSettings ModelSettingsFinder::find(const std::string& model_name) const {
  ModelSettings settings = in_folders(model_name);
  return more_ ? more_(std::move(settings), model_name) : settings;
}

ModelSettings ModelSettingsFinder::in_folders(const std::string& model_name) const {
  if (!is_plain_name(model_name)) {
    return {};
  }
  for (const fs::path& folder : folders_) {
    const fs::path file = folder / (model_name + ".yaml");
    if (fs::exists(file)) {
      return read_model_settings(file);
    }
  }
  return {};
}

std::vector<fs::path> model_settings_folders(const fs::path& home,
                                             const std::optional<fs::path>& config_file) {
  std::vector<fs::path> folders{home / "configs" / "models"};
  if (config_file) {
    folders.push_back(fs::absolute(*config_file).parent_path() / "models");
  }
  folders.push_back(program_folder().parent_path() / "share" / "mlxr" / "configs" / "models");
  return folders;
}

}  // namespace mlxr
