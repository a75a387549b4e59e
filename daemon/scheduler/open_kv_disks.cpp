#include "daemon/scheduler/open_kv_disks.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "core/base/error.h"

namespace mlxr {
namespace {

// That blocks of who has just gone are waited for: its queue is written first.
constexpr std::chrono::seconds kLongestClose{20};

using ThreadPtr = std::shared_ptr<KvDisk::Thread>;

}  // namespace

struct OpenKvDisks::State {
  std::mutex mutex;
  std::condition_variable closed;
  // One that is expired is being closed.
  std::map<std::filesystem::path, std::weak_ptr<KvDisk::Thread>> open;
};

OpenKvDisks::OpenKvDisks() : state_(std::make_shared<State>()) {}
OpenKvDisks::~OpenKvDisks() = default;

std::unique_ptr<KvDisk> OpenKvDisks::open(BlockStoreOptions options, KvDiskOptions disk) {
  const std::filesystem::path folder = options.folder;
  ThreadPtr thread;  // outlives the lock: its end takes it
  std::unique_lock lock(state_->mutex);
  const auto settled = [&] {
    const auto found = state_->open.find(folder);
    if (found == state_->open.end()) return true;
    thread = found->second.lock();
    return thread != nullptr;
  };
  if (!state_->closed.wait_for(lock, kLongestClose, settled)) {
    throw Error(ErrorCode::kUnavailable, "the KV blocks in " + folder.string() +
                                             " of the model that was unloaded are still written");
  }
  if (thread) {
    lock.unlock();
    if (KvDisk::block_bytes(*thread) == options.block_bytes) {
      return std::make_unique<KvDisk>(std::move(thread));
    }
    throw Error(ErrorCode::kUnavailable,
                "the KV blocks in " + folder.string() +
                    " are in use by the copy of the model that was unloaded and still answers, "
                    "which has another kv_type");
  }
  ThreadPtr opened =
      KvDisk::start(std::make_unique<BlockStore>(std::move(options)), std::move(disk));
  KvDisk::Thread* const its = opened.get();
  auto close = [state = state_, folder, opened = std::move(opened)](KvDisk::Thread*) mutable {
    opened.reset();
    const std::lock_guard closing(state->mutex);
    state->open.erase(folder);
    state->closed.notify_all();
  };
  thread = ThreadPtr(its, std::move(close));
  state_->open[folder] = thread;
  lock.unlock();
  return std::make_unique<KvDisk>(std::move(thread));
}

}  // namespace mlxr
