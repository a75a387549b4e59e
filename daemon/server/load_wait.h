// A request that waits for its model to be loaded: a place in the manager's queue, which the
// client's going away gives up.
#pragma once

#include <memory>
#include <optional>

#include "daemon/scheduler/model_manager.h"
#include "daemon/server/http/kept_stream.h"

namespace mlxr {

class LoadWait {
 public:
  // The exchange's executor must be a strand.
  LoadWait(ModelManager& models, Exchange& exchange);
  ~LoadWait();
  LoadWait(const LoadWait&) = delete;
  LoadWait& operator=(const LoadWait&) = delete;

  // Throws as ModelManager::acquire.
  void begin(const ModelEntry& entry, std::optional<std::chrono::milliseconds> timeout);
  // The model; throws what the load threw, its files' faults named. `stream`: begun, and kept
  // alive, when the load takes longer than KeptStream::kPingInterval; null: the client asked for
  // none.
  Task<std::shared_ptr<ServedModel>> end(const ModelEntry& entry, KeptStream* stream);

 private:
  struct News;
  static Task<void> keep_alive(Exchange& exchange, KeptStream& stream);

  ModelManager& models_;
  Exchange& exchange_;
  std::shared_ptr<News> news_;  // shared with the manager, which tells it on a thread of its own
  ModelManager::WaitId id_ = 0;
};

}  // namespace mlxr
