// Per-model settings: configs/models/NAME.yaml. Owns which keys exist and where the files are
// sought.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/model_manager.h"

namespace mlxr {

// Throws Error{kInvalidArgument} naming file, line and what is allowed.
ModelSettings read_model_settings(const std::filesystem::path& file);

// Looks for NAME.yaml; the first of `folders` that has one wins.
class ModelSettingsFinder {
 public:
  // What else is known of a model, over what its file says.
  using More = std::function<ModelSettings(ModelSettings settings, const std::string& model_name)>;

  explicit ModelSettingsFinder(std::vector<std::filesystem::path> folders, More more = nullptr);
  ModelSettings find(const std::string& model_name) const;

 private:
  ModelSettings in_folders(const std::string& model_name) const;

  std::vector<std::filesystem::path> folders_;
  More more_;
};

// $MLXR_HOME/configs/models, then models/ beside the configuration file, then what was installed.
std::vector<std::filesystem::path> model_settings_folders(
    const std::filesystem::path& home, const std::optional<std::filesystem::path>& config_file);

// The keys that a model's file may hold (for the documentation test).
std::vector<std::string> model_setting_keys();

}  // namespace mlxr
