// Write-behind and read-ahead for a BlockStore: one thread that does all of its input and output,
// reads first, so that the thread that steps never waits for a disk. What is written is copied into
// a bounded queue; what is read lies ready when its owner asks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "core/runtime/kv/block_store.h"

namespace mlxr {

struct KvDiskOptions {
  int64_t queue_bytes = int64_t{32} << 20;       // of blocks that wait to be written; at least one
  std::function<void(const std::string&)> warn;  // one sentence; may be empty; on any thread
};

struct KvDiskStats {
  BlockStoreStats store;
  uint64_t written = 0, read = 0;  // blocks
  uint64_t failed = 0;             // blocks that could not be written
};

class KvDisk {
 public:
  // Blocks on their way from the disk. Who lets go of it does not want them any more.
  class Reading {
   public:
    Reading() = default;
    Reading(Reading&& other) noexcept = default;
    Reading& operator=(Reading&& other) noexcept;
    ~Reading() { drop(); }

    explicit operator bool() const { return state_ != nullptr; }
    bool done() const;
    const std::vector<BlockHash>& hashes() const { return state_->hashes; }
    // When done: how many of the first ones were there, and what they hold.
    size_t found() const { return state_->found; }
    std::span<const std::byte> bytes(size_t block) const;

   private:
    friend class KvDisk;
    struct State {
      std::vector<BlockHash> hashes;
      size_t block_bytes = 0, found = 0;
      std::vector<std::byte> bytes;
      std::atomic<bool> done = false, unwanted = false;
    };
    explicit Reading(std::shared_ptr<State> state) : state_(std::move(state)) {}
    void drop();

    std::shared_ptr<State> state_;
  };

  KvDisk(std::unique_ptr<BlockStore> store, KvDiskOptions options);
  // Writes what waits.
  ~KvDisk();
  KvDisk(const KvDisk&) = delete;
  KvDisk& operator=(const KvDisk&) = delete;

  int64_t block_bytes() const { return store_->block_bytes(); }
  // It is on disk.
  bool holds(const BlockHash& hash) const { return store_->holds(hash); }
  // It is on disk or will be.
  bool knows(const BlockHash& hash) const;
  // The queue has room for a block.
  bool has_room() const;
  // Queues a block whose bytes `fill` writes, into block_bytes(), before this returns. There is
  // room.
  void write(const BlockHash& hash, const std::optional<BlockHash>& parent,
             const std::function<void(std::span<std::byte>)>& fill);
  Reading read(std::vector<BlockHash> hashes);
  void touch(const BlockHash& hash);
  KvDiskStats stats() const;

  // Is called on the disk's thread when a reading is done, or a full queue has room again; it must
  // not block. Null: nobody is called, not even now.
  void on_change(std::function<void()> callback);

 private:
  struct Write {
    BlockHash hash;
    std::optional<BlockHash> parent;
    std::vector<std::byte> bytes;
  };
  using ReadState = std::shared_ptr<Reading::State>;

  void run();
  void do_read(Reading::State& state);
  void do_write(const Write& write);
  void do_touches(const std::vector<BlockHash>& hashes);
  void tell();
  void guard(const std::function<void()>& work);

  std::unique_ptr<BlockStore> store_;
  KvDiskOptions options_;
  size_t most_queued_;
  bool failure_told_ = false;  // the disk's thread's own

  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::deque<ReadState> reads_;
  std::deque<Write> writes_;
  std::vector<BlockHash> touches_;
  std::unordered_set<BlockHash, BlockHash::Hasher> queued_;  // writes, that under way included
  uint64_t written_ = 0, read_ = 0, failed_ = 0;
  bool stopping_ = false;

  std::mutex callback_mutex_;
  std::function<void()> callback_;
  std::thread thread_;
};

}  // namespace mlxr
