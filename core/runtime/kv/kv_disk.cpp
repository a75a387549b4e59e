#include "core/runtime/kv/kv_disk.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

namespace mlxr {

// Who waits for what it has queued, and what came of that.
struct KvDisk::User {
  std::atomic<uint64_t> written = 0, read = 0, failed = 0;
  std::mutex mutex;
  std::function<void()> callback;

  void tell() {
    const std::lock_guard lock(mutex);
    if (callback) callback();
  }
};

class KvDisk::Thread {
 public:
  using UserPtr = std::shared_ptr<User>;
  struct Write {
    BlockHash hash;
    std::optional<BlockHash> parent;
    std::vector<std::byte> bytes;
    UserPtr user;
  };
  struct Read {
    std::shared_ptr<Reading::State> state;
    UserPtr user;
  };

  Thread(std::unique_ptr<BlockStore> store, KvDiskOptions options);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  const BlockStore& store() const { return *store_; }
  bool knows(const BlockHash& hash) const;
  bool has_room() const;
  void write(Write write);
  void read(Read read);
  void touch(const BlockHash& hash);
  void add_user(const UserPtr& user);

 private:
  void run();
  void do_read(const Read& read);
  void do_write(const Write& write);
  void do_touches(const std::vector<BlockHash>& hashes);
  void tell_all();
  void guard(const std::function<void()>& work);

  std::unique_ptr<BlockStore> store_;
  KvDiskOptions options_;
  size_t most_queued_;
  bool failure_told_ = false;  // the thread's own

  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Read> reads_;
  std::deque<Write> writes_;
  std::vector<BlockHash> touches_;
  std::unordered_set<BlockHash, BlockHash::Hasher> queued_;  // writes, that under way included
  std::vector<std::weak_ptr<User>> users_;
  bool stopping_ = false;

  std::thread thread_;
};

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

KvDisk::Thread::Thread(std::unique_ptr<BlockStore> store, KvDiskOptions options)
    : store_(std::move(store)),
      options_(std::move(options)),
      most_queued_(
          static_cast<size_t>(std::max<int64_t>(1, options_.queue_bytes / store_->block_bytes()))) {
  thread_ = std::thread([this] { run(); });
}

KvDisk::Thread::~Thread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

bool KvDisk::Thread::knows(const BlockHash& hash) const {
  {
    const std::lock_guard lock(mutex_);
    if (queued_.contains(hash)) return true;
  }
  return store_->holds(hash);
}

bool KvDisk::Thread::has_room() const {
  const std::lock_guard lock(mutex_);
  return writes_.size() < most_queued_;
}

void KvDisk::Thread::write(Write write) {
  {
    const std::lock_guard lock(mutex_);
    queued_.insert(write.hash);
    writes_.push_back(std::move(write));
  }
  work_.notify_all();
}

void KvDisk::Thread::read(Read read) {
  {
    const std::lock_guard lock(mutex_);
    reads_.push_back(std::move(read));
  }
  work_.notify_all();
}

void KvDisk::Thread::touch(const BlockHash& hash) {
  {
    const std::lock_guard lock(mutex_);
    touches_.push_back(hash);
  }
  work_.notify_all();
}

void KvDisk::Thread::add_user(const UserPtr& user) {
  const std::lock_guard lock(mutex_);
  std::erase_if(users_, [](const auto& one) { return one.expired(); });
  users_.push_back(user);
}

// The queue has room again, which is everybody's.
void KvDisk::Thread::tell_all() {
  std::vector<UserPtr> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& one : users_) {
      if (auto user = one.lock()) all.push_back(std::move(user));
    }
  }
  for (const UserPtr& user : all) user->tell();
}

// A disk that fails costs the cache, never more.
void KvDisk::Thread::guard(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    if (std::exchange(failure_told_, true) || !options_.warn) return;
    options_.warn(std::string("a KV block is not kept on disk (more are counted, not told): ") +
                  error.what());
  }
}

void KvDisk::Thread::do_read(const Read& read) {
  Reading::State& state = *read.state;
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
  read.user->read += state.found;
  state.done = true;
  read.user->tell();
}

void KvDisk::Thread::do_write(const Write& write) {
  bool stored = false;
  guard([&] { stored = store_->put(write.hash, write.parent, write.bytes); });
  ++(stored ? write.user->written : write.user->failed);
}

void KvDisk::Thread::do_touches(const std::vector<BlockHash>& hashes) {
  guard([&] {
    for (const BlockHash& hash : hashes) store_->touch(hash);
  });
}

void KvDisk::Thread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] {
      return stopping_ || !reads_.empty() || !writes_.empty() || !touches_.empty();
    });
    if (!reads_.empty()) {
      const Read read = std::move(reads_.front());
      reads_.pop_front();
      read.state->unwanted = read.state->unwanted || stopping_;
      lock.unlock();
      do_read(read);
      lock.lock();
    } else if (!writes_.empty()) {
      const bool was_full = writes_.size() >= most_queued_;
      const Write write = std::move(writes_.front());
      writes_.pop_front();
      lock.unlock();
      do_write(write);
      if (was_full) tell_all();
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

std::shared_ptr<KvDisk::Thread> KvDisk::start(std::unique_ptr<BlockStore> store,
                                              KvDiskOptions options) {
  return std::make_shared<Thread>(std::move(store), std::move(options));
}

int64_t KvDisk::block_bytes(const Thread& thread) { return thread.store().block_bytes(); }

// The first user has also what the store found when it was opened.
KvDisk::KvDisk(std::shared_ptr<Thread> thread)
    : user_(std::make_shared<User>()), thread_(std::move(thread)) {
  if (thread_.use_count() > 1) before_ = thread_->store().stats();
  thread_->add_user(user_);
}

KvDisk::~KvDisk() { on_change(nullptr); }

bool KvDisk::holds(const BlockHash& hash) const { return thread_->store().holds(hash); }

bool KvDisk::knows(const BlockHash& hash) const { return thread_->knows(hash); }

bool KvDisk::has_room() const { return thread_->has_room(); }

void KvDisk::write(const BlockHash& hash, const std::optional<BlockHash>& parent,
                   const std::function<void(std::span<std::byte>)>& fill) {
  Thread::Write write{.hash = hash, .parent = parent, .bytes = {}, .user = user_};
  write.bytes.resize(static_cast<size_t>(block_bytes()));
  fill(write.bytes);
  thread_->write(std::move(write));
}

KvDisk::Reading KvDisk::read(std::vector<BlockHash> hashes) {
  auto state = std::make_shared<Reading::State>();
  state->hashes = std::move(hashes);
  state->block_bytes = static_cast<size_t>(block_bytes());
  thread_->read({.state = state, .user = user_});
  return Reading(std::move(state));
}

void KvDisk::touch(const BlockHash& hash) { thread_->touch(hash); }

KvDiskStats KvDisk::stats() const {
  BlockStoreStats store = thread_->store().stats();
  store.damaged -= before_.damaged;
  store.evicted -= before_.evicted;
  return {.store = store, .written = user_->written, .read = user_->read, .failed = user_->failed};
}

void KvDisk::on_change(std::function<void()> callback) {
  const std::lock_guard lock(user_->mutex);
  user_->callback = std::move(callback);
}

}  // namespace mlxr
