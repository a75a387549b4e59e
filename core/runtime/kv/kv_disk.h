// Write-behind and read-ahead for a BlockStore: one thread that does all of its input and output,
// reads first, so that the threads that step never wait for a disk. What is written is copied into
// a bounded queue; what is read lies ready when its owner asks.
//
// A model that leaves while it answers and the copy that comes after it use the same store: each
// has a KvDisk of its own, and the last one that goes ends the thread and closes the store.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/kv/block_store.h"

namespace mlxr {

struct KvDiskOptions {
  int64_t queue_bytes = int64_t{32} << 20;       // of blocks that wait to be written; at least one
  std::function<void(const std::string&)> warn;  // one sentence; may be empty; on any thread
};

struct KvDiskStats {
  BlockStoreStats store;           // its counts: since this user came
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

  class Thread;  // with its store, for all that use it; writes what waits before it ends
  static std::shared_ptr<Thread> start(std::unique_ptr<BlockStore> store, KvDiskOptions options);
  static int64_t block_bytes(const Thread& thread);

  explicit KvDisk(std::shared_ptr<Thread> thread);
  KvDisk(std::unique_ptr<BlockStore> store, KvDiskOptions options)
      : KvDisk(start(std::move(store), std::move(options))) {}
  ~KvDisk();
  KvDisk(const KvDisk&) = delete;
  KvDisk& operator=(const KvDisk&) = delete;

  int64_t block_bytes() const { return block_bytes(*thread_); }
  // It is on disk.
  bool holds(const BlockHash& hash) const;
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
  struct User;

  std::shared_ptr<User> user_;  // also with what it has queued
  std::shared_ptr<Thread> thread_;
  BlockStoreStats before_;  // what the store had counted when this user came
};

}  // namespace mlxr
