// KV blocks of one model on disk, found by their hashes: content-addressed, bounded, checksummed.
// What is damaged, cut off or gone is a miss, never an error. One process at a time. Blocks of
// another size in the folder are put aside and stay (other_layouts.h); all count for the bound.
//
// Thread-safe are holds() and stats(); all else belongs to one thread (kv_disk.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/file_lock.h"
#include "core/runtime/kv/block_files.h"
#include "core/runtime/kv/disk_index.h"

namespace mlxr {

struct BlockStoreOptions {
  std::filesystem::path folder;  // of the model; made when it is missing
  int64_t block_bytes = 0;
  int64_t most_bytes = 0;  // that the files may take
  // What the disk has left for others to write, and what is to be kept of it: the store neither
  // grows into that nor, when it is opened, stays in it.
  std::function<int64_t()> free_bytes;
  int64_t keep_free = 0;
  uint64_t damaged = 0;  // found so by who opens it: counted with what the store finds
  std::function<void(const std::string&)> warn;  // one sentence; may be empty
};

// Makes it (mode 0700) when it is missing. Throws Error{kIo} naming it.
void make_private_folder(const std::filesystem::path& folder);

// For the folder's disk: what is free, and a twentieth of the disk, at most 1 GiB, kept.
void use_disk_limits(BlockStoreOptions& options);

struct BlockStoreStats {
  int64_t blocks = 0, bytes = 0;  // on disk; those put aside are in `bytes` alone
  uint64_t damaged = 0;           // records and blocks found so since it was opened
  uint64_t evicted = 0;           // blocks that made room for others
};

class BlockStore {
 public:
  // Reads the index and keeps to the limits. Throws Error{kUnavailable} when another process has
  // the folder open, Error{kInvalidArgument} when not even one block fits most_bytes, Error{kIo}.
  explicit BlockStore(BlockStoreOptions options);

  int64_t block_bytes() const { return options_.block_bytes; }
  bool holds(const BlockHash& hash) const;
  BlockStoreStats stats() const;

  // Writes a block, in place of the least recently used ones where there is no room. False when
  // there is none. Throws Error{kIo}.
  bool put(const BlockHash& hash, const std::optional<BlockHash>& parent,
           std::span<const std::byte> bytes);
  // Reads block_bytes() of it. False when it is not there, or is damaged: it is gone then.
  bool get(const BlockHash& hash, std::span<std::byte> bytes);
  // Its last use is now, and so is that of all before it.
  void touch(const BlockHash& hash);

 private:
  int32_t most_slots() const;
  void bound_aside();
  void load();
  void begin_anew(const char* why);
  void shrink(int32_t slots);
  void move_block(SlotId from, SlotId to);
  std::optional<SlotId> take_slot();
  void evict(SlotId slot);
  uint64_t next_tick();
  void warn(const std::string& sentence) const {
    if (options_.warn) options_.warn(sentence);
  }

  BlockStoreOptions options_;
  std::unique_ptr<FileLock> lock_;
  std::optional<BlockFiles> files_;
  int64_t aside_bytes_ = 0;  // of blocks of other sizes
  uint64_t last_tick_ = 0;
  bool damage_told_ = false;

  mutable std::mutex mutex_;  // of what follows; only the owning thread changes it
  DiskIndex index_;
  uint64_t damaged_ = 0, evicted_ = 0;
};

}  // namespace mlxr
