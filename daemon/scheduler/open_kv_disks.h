// Which models' KV blocks this daemon has open. A model that was unloaded keeps its own until it
// has answered; the copy that is loaded meanwhile uses the same.
#pragma once

#include <filesystem>
#include <memory>

#include "core/runtime/kv/kv_disk.h"

namespace mlxr {

// Thread-safe. What it opened may outlive it.
class OpenKvDisks {
 public:
  OpenKvDisks();
  ~OpenKvDisks();

  // The blocks in the folder of `options`, for one more user. Those of a user that has just gone
  // are waited for. Throws as BlockStore, and Error{kUnavailable} while the folder is open for
  // blocks of another size.
  std::unique_ptr<KvDisk> open(BlockStoreOptions options, KvDiskOptions disk);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace mlxr
