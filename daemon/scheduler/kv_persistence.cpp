#include "daemon/scheduler/kv_persistence.h"

#include <algorithm>
#include <utility>

namespace mlxr {
namespace {

// What is read ahead for a sequence at once, and copied for the disk between two steps.
constexpr int64_t kReadBytes = int64_t{16} << 20;
constexpr int64_t kCopyBytes = int64_t{16} << 20;
constexpr int64_t kMostReadBlocks = 512;
// Sequences that are read for at the same time: what was read takes memory until it is landed.
constexpr int kMostReadings = 4;

}  // namespace

KvPersistence::KvPersistence(StepEngine& engine, std::unique_ptr<KvDisk> disk)
    : engine_(engine),
      disk_(std::move(disk)),
      most_read_(static_cast<size_t>(
          std::clamp<int64_t>(kReadBytes / disk_->block_bytes(), 1, kMostReadBlocks))) {
  engine_.pager().on_publish([this](BlockId block) { note(block); });
}

KvPersistence::~KvPersistence() {
  engine_.pager().on_publish(nullptr);
  while (can_write()) write_some();
}

// A block that is to be written; nothing changes it as long as it has this name.
void KvPersistence::note(BlockId block) {
  const auto name = engine_.pager().name_of(block);
  if (!name || !engine_.pager().whole(block) || disk_->knows(name->hash)) return;
  backlog_.push_back({block, name->hash});
  if (backlog_.size() > static_cast<size_t>(engine_.pager().total_blocks())) {
    backlog_.pop_front();
    ++dropped_;
  }
}

void KvPersistence::write_some() {
  for (int64_t copied = 0; copied < kCopyBytes && can_write();) {
    const Waiting next = backlog_.front();
    backlog_.pop_front();
    const auto name = engine_.pager().name_of(next.block);
    // Evicted before its turn came.
    if (!name || name->hash != next.hash || !engine_.pager().whole(next.block)) {
      ++dropped_;
      continue;
    }
    if (disk_->knows(next.hash)) continue;
    disk_->write(next.hash, name->parent,
                 [&](std::span<std::byte> to) { engine_.save_block(next.block, to); });
    copied += disk_->block_bytes();
  }
}

void KvPersistence::started(RunningSequence& s) {
  const Pager& pager = engine_.pager();
  const auto& blocks = s.kv()->blocks();
  // What was evicted from the disk, or never got there, though it is in use.
  for (BlockId block : blocks) note(block);
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    const auto name = pager.name_of(*block);
    if (!name || !disk_->holds(name->hash)) continue;
    disk_->touch(name->hash);
    break;
  }
  s.set_restoring(true);
}

bool KvPersistence::is_read_for_another(const BlockHash& hash, const RunningSequence& s,
                                        Sequences running) const {
  return std::ranges::any_of(running, [&](const auto& other) {
    return other.get() != &s && other->reading() &&
           std::ranges::count(other->reading()->hashes(), hash) > 0;
  });
}

void KvPersistence::plan(Sequences running) {
  auto readings =
      std::ranges::count_if(running, [](const auto& s) { return s->reading().has_value(); });
  for (const auto& s : running) {
    if (!s->restoring() || s->reading()) continue;
    s->adopt_cached();
    const auto first = s->kv()->next_names(s->pending(), 1);
    if (first.empty() || !disk_->holds(first.front())) {
      s->set_restoring(false);
      continue;
    }
    if (readings >= kMostReadings || is_read_for_another(first.front(), *s, running)) continue;
    auto names = s->kv()->next_names(s->pending(), most_read_);
    names.erase(
        std::ranges::find_if(names, [&](const BlockHash& name) { return !disk_->holds(name); }),
        names.end());
    if (names.empty()) {  // evicted just now
      s->set_restoring(false);
    } else {
      s->reading() = disk_->read(std::move(names));
      ++readings;
    }
  }
}

int64_t KvPersistence::land(Sequences running) {
  int64_t blocks = 0;
  for (const auto& s : running) {
    if (!s->reading() || !s->reading()->done()) continue;
    const KvDisk::Reading reading = *std::exchange(s->reading(), std::nullopt);
    const int64_t taken = take(*s, reading);
    blocks += taken;
    // Damaged, or no room: the rest is computed.
    if (taken == 0) s->set_restoring(false);
  }
  return blocks;
}

int64_t KvPersistence::take(RunningSequence& s, const KvDisk::Reading& reading) {
  int64_t taken = 0;
  for (size_t i = 0; i < reading.found(); ++i) {
    const auto next = s.kv()->next_names(s.pending(), 1);
    if (next.empty() || next.front() != reading.hashes()[i]) continue;
    const auto size = static_cast<int64_t>(engine_.pager().block_tokens());
    if (!s.kv()->to_reserve(s.kv()->length() + size).within(engine_.pager().free())) break;
    s.restore([&](BlockId block) { engine_.load_block(block, reading.bytes(i)); });
    ++taken;
  }
  return taken;
}

void KvPersistence::report(SchedulerStats& stats) const {
  const KvDiskStats disk = disk_->stats();
  stats.kv_disk_blocks = disk.store.blocks;
  stats.kv_disk_bytes = disk.store.bytes;
  stats.kv_blocks_persisted = disk.written;
  stats.kv_blocks_dropped = dropped_ + disk.failed;
  stats.kv_blocks_damaged = disk.store.damaged;
  stats.kv_disk_evictions = disk.store.evicted;
}

}  // namespace mlxr
