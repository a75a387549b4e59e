// Keeps the KV blocks of a scheduler's engine on disk, and brings them back. A block that is
// published is copied for the disk as soon as its queue has room, if it is still in memory then. A
// sequence whose next blocks are on disk waits for them, while the others go on.
// Belongs to the scheduler's thread, but for on_change() and report().
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>

#include "core/runtime/kv/kv_disk.h"
#include "daemon/scheduler/running_sequence.h"
#include "daemon/scheduler/scheduler_stats.h"
#include "daemon/scheduler/step_engine.h"

namespace mlxr {

class KvPersistence {
 public:
  // The engine's pager names blocks under the disk's key (kv_identity.h). The engine outlives it.
  KvPersistence(StepEngine& engine, std::unique_ptr<KvDisk> disk);
  // Writes what is still queued.
  ~KvPersistence();
  KvPersistence(const KvPersistence&) = delete;
  KvPersistence& operator=(const KvPersistence&) = delete;

  // See KvDisk. Thread-safe.
  void on_change(std::function<void()> callback) { disk_->on_change(std::move(callback)); }

  // The sequence was started and has what memory held for it.
  void started(RunningSequence& s);

  using Sequences = std::span<const std::unique_ptr<RunningSequence>>;
  // Gives sequences the blocks that were read for them. Returns how many blocks that were.
  int64_t land(Sequences running);
  // Asks for the next blocks of restoring sequences, and lets those go on for which there are none.
  void plan(Sequences running);

  bool can_write() const { return !backlog_.empty() && disk_->has_room(); }
  // Copies blocks for the disk while its queue has room.
  void write_some();

  void report(SchedulerStats& stats) const;

 private:
  struct Waiting {
    BlockId block;
    BlockHash hash;
  };
  void note(BlockId block);
  bool is_read_for_another(const BlockHash& hash, const RunningSequence& s,
                           Sequences running) const;
  int64_t take(RunningSequence& s, const KvDisk::Reading& reading);

  StepEngine& engine_;
  std::unique_ptr<KvDisk> disk_;
  size_t most_read_;             // blocks of one reading
  std::deque<Waiting> backlog_;  // parents before children
  std::atomic<uint64_t> dropped_ = 0;
};

}  // namespace mlxr
