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
  // A model whose headers were read.
  class Opened {
   public:
    virtual ~Opened() = default;
    virtual const MemoryEstimate& estimate() const = 0;
    virtual std::shared_ptr<ServedModel> load() = 0;  // at most once
  };

  virtual ~ModelLoader() = default;
  // `entry` has the stamp of its files as they are now. May be called by several threads at once.
  // This and what it gives throw mlxr::Error; the loader outlives that.
  virtual std::unique_ptr<Opened> open(const ModelEntry& entry, const ModelSettings& settings) = 0;
};

// What the engine of a model with these settings is made with.
EngineOptions engine_options(EngineOptions options, const ModelSettings& settings);

// Loads what lies on disk. `find` gives the entry of a name that settings mention.
std::unique_ptr<ModelLoader> file_model_loader(
    const ModelManagerOptions& options, std::function<ModelEntry(const std::string& name)> find);

}  // namespace mlxr
