// The LoRA adapters that a model's settings file lists.
#pragma once

#include <filesystem>
#include <vector>

#include "daemon/config/yaml_map.h"
#include "daemon/scheduler/adapter_store.h"

namespace mlxr {

inline constexpr const char* kAdaptersKey = "adapters";

// A list of maps: `path`, from `folder` where it is relative; `name`, without which it is the
// path's last part; `scale`. Throws Error{kInvalidArgument} naming file, line and what is allowed.
std::vector<AdapterSettings> read_adapter_settings(const YamlEntry& entry,
                                                   const std::filesystem::path& folder);

}  // namespace mlxr
