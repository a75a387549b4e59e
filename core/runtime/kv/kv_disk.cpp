#include "core/runtime/kv/kv_disk.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace mlxr {

KvDisk::Reading& KvDisk::Reading::operator=(Reading&& other) noexcept {
  if (this != &other) {
    drop();
    state_ = std::move(other.state_);
  }
  return *this;
}

void KvDisk::Reading::drop() {
  if (state_) state_->unwanted = true;
}

bool KvDisk::Reading::done() const { return state_->done; }

std::span<const std::byte> KvDisk::Reading::bytes(size_t block) const {
  return std::span(state_->bytes).subspan(block * state_->block_bytes, state_->block_bytes);
}

KvDisk::KvDisk(std::unique_ptr<BlockStore> store, KvDiskOptions options)
    : store_(std::move(store)),
      options_(std::move(options)),
      most_queued_(
          static_cast<size_t>(std::max<int64_t>(1, options_.queue_bytes / store_->block_bytes()))) {
  thread_ = std::thread([this] { run(); });
}

KvDisk::~KvDisk() {
  on_change(nullptr);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

bool KvDisk::knows(const BlockHash& hash) const {
  {
    const std::lock_guard lock(mutex_);
    if (queued_.contains(hash)) return true;
  }
  return store_->holds(hash);
}

bool KvDisk::has_room() const {
  const std::lock_guard lock(mutex_);
  return writes_.size() < most_queued_;
}

void KvDisk::write(const BlockHash& hash, const std::optional<BlockHash>& parent,
                   const std::function<void(std::span<std::byte>)>& fill) {
  Write write{.hash = hash, .parent = parent, .bytes = {}};
  write.bytes.resize(static_cast<size_t>(block_bytes()));
  fill(write.bytes);
  {
    const std::lock_guard lock(mutex_);
    queued_.insert(hash);
    writes_.push_back(std::move(write));
  }
  work_.notify_all();
}

KvDisk::Reading KvDisk::read(std::vector<BlockHash> hashes) {
  auto state = std::make_shared<Reading::State>();
  state->hashes = std::move(hashes);
  state->block_bytes = static_cast<size_t>(block_bytes());
  {
    const std::lock_guard lock(mutex_);
    reads_.push_back(state);
  }
  work_.notify_all();
  return Reading(std::move(state));
}

void KvDisk::touch(const BlockHash& hash) {
  {
    const std::lock_guard lock(mutex_);
    touches_.push_back(hash);
  }
  work_.notify_all();
}

KvDiskStats KvDisk::stats() const {
  const BlockStoreStats store = store_->stats();
  const std::lock_guard lock(mutex_);
  return {.store = store, .written = written_, .read = read_, .failed = failed_};
}

void KvDisk::on_change(std::function<void()> callback) {
  const std::lock_guard lock(callback_mutex_);
  callback_ = std::move(callback);
}

void KvDisk::tell() {
  const std::lock_guard lock(callback_mutex_);
  if (callback_) callback_();
}

// A disk that fails costs the cache, never more.
void KvDisk::guard(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    if (std::exchange(failure_told_, true) || !options_.warn) return;
    options_.warn(std::string("a KV block is not kept on disk (more are counted, not told): ") +
                  error.what());
  }
}

void KvDisk::do_read(Reading::State& state) {
  guard([&] {
    state.bytes.resize(state.hashes.size() * state.block_bytes);
    size_t found = 0;
    while (found < state.hashes.size() && !state.unwanted) {
      const auto into =
          std::span(state.bytes).subspan(found * state.block_bytes, state.block_bytes);
      if (!store_->get(state.hashes[found], into)) break;
      ++found;
    }
    state.found = found;
    if (found > 0) store_->touch(state.hashes[found - 1]);
  });
  {
    const std::lock_guard lock(mutex_);
    read_ += state.found;
  }
  state.done = true;
  tell();
}

void KvDisk::do_write(const Write& write) {
  bool stored = false;
  guard([&] { stored = store_->put(write.hash, write.parent, write.bytes); });
  const std::lock_guard lock(mutex_);
  ++(stored ? written_ : failed_);
}

void KvDisk::do_touches(const std::vector<BlockHash>& hashes) {
  guard([&] {
    for (const BlockHash& hash : hashes) store_->touch(hash);
  });
}

void KvDisk::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] {
      return stopping_ || !reads_.empty() || !writes_.empty() || !touches_.empty();
    });
    if (!reads_.empty()) {
      const ReadState state = std::move(reads_.front());
      reads_.pop_front();
      state->unwanted = state->unwanted || stopping_;
      lock.unlock();
      do_read(*state);
      lock.lock();
    } else if (!writes_.empty()) {
      const bool was_full = writes_.size() >= most_queued_;
      const Write write = std::move(writes_.front());
      writes_.pop_front();
      lock.unlock();
      do_write(write);
      if (was_full) tell();
      lock.lock();
      queued_.erase(write.hash);
    } else if (!touches_.empty()) {
      const auto hashes = std::exchange(touches_, {});
      lock.unlock();
      do_touches(hashes);
      lock.lock();
    } else if (stopping_) {
      return;
    }
  }
}

}  // namespace mlxr
