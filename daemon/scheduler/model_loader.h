// From a model's files to a model that answers, and what that will take: the part of loading that
// knows files and engines, and nothing of who is in memory (model_manager.h).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemon/scheduler/model_catalog.h"
#include "daemon/scheduler/served_model.h"

namespace mlxr {

struct ModelManagerOptions;

class ModelLoader {
 public:
  virtual ~ModelLoader() = default;
  // Both may be called by several threads at once; both throw mlxr::Error.
  virtual MemoryEstimate estimate(const ModelEntry& entry, const ModelSettings& settings) const = 0;
  virtual std::shared_ptr<ServedModel> load(const ModelEntry& entry, const ModelSettings& settings,
                                            const MemoryEstimate& estimate) = 0;
};

// Loads what lies on disk. `find` gives the entry of a name that settings mention.
std::unique_ptr<ModelLoader> file_model_loader(
    const ModelManagerOptions& options, std::function<ModelEntry(const std::string& name)> find);

}  // namespace mlxr
