#include "core/runtime/kv/block_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <system_error>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/runtime/kv/other_layouts.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostKeptFree = int64_t{1} << 30;

// Whoever looks, or ends, holds it for a moment only.
std::unique_ptr<FileLock> take_lock(const fs::path& path) {
  for (int i = 0; i < 10; ++i) {
    if (auto lock = FileLock::try_take(path)) return lock;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  return nullptr;
}

uint64_t unix_milliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

}  // namespace

void make_private_folder(const fs::path& folder) {
  std::error_code problem;
  if (fs::is_directory(folder, problem)) return;
  fs::create_directories(folder.parent_path(), problem);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    throw Error(ErrorCode::kIo,
                "cannot make the folder " + folder.string() + ": " + std::strerror(errno));
  }
}

void use_disk_limits(BlockStoreOptions& options) {
  std::error_code problem;
  make_private_folder(options.folder);
  const fs::space_info disk = fs::space(options.folder, problem);
  if (problem) return;
  options.keep_free = std::min(kMostKeptFree, static_cast<int64_t>(disk.capacity / 20));
  options.free_bytes = [folder = options.folder] {
    std::error_code gone;
    const fs::space_info now = fs::space(folder, gone);
    return gone ? int64_t{0} : static_cast<int64_t>(now.available);
  };
}

BlockStore::BlockStore(BlockStoreOptions options) : options_(std::move(options)) {
  if (most_slots() < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(options_.most_bytes) + " bytes on disk hold no KV block of " +
                    std::to_string(options_.block_bytes) + " bytes; set a larger kv_disk_bytes");
  }
  make_private_folder(options_.folder);
  lock_ = take_lock(options_.folder / "lock");
  if (!lock_) {
    throw Error(ErrorCode::kUnavailable,
                "another process uses the KV blocks in " + options_.folder.string());
  }
  damaged_ = options_.damaged;
  bring_layout(options_.folder, options_.block_bytes);
  bound_aside();
  files_.emplace(options_.folder);
  load();
}

int32_t BlockStore::most_slots() const {
  const int64_t slot = slot_bytes_for(options_.block_bytes) + BlockFiles::kRecordBytes;
  const int64_t slots = (options_.most_bytes - aside_bytes_ - BlockFiles::kRecordBytes) / slot;
  return static_cast<int32_t>(
      std::clamp<int64_t>(slots, 0, std::numeric_limits<int32_t>::max() - 1));
}

// Blocks of other sizes may take half of the bound, those used last first; nothing while the disk
// is short of space.
void BlockStore::bound_aside() {
  const int64_t one = slot_bytes_for(options_.block_bytes) + 2 * BlockFiles::kRecordBytes;
  int64_t left = std::min(options_.most_bytes / 2, options_.most_bytes - one);
  if (options_.free_bytes && options_.free_bytes() < options_.keep_free) left = 0;
  for (const OtherLayout& other : other_layouts(options_.folder)) {
    int64_t bytes = other.bytes;
    if (bytes > left) {
      try {
        const BlockStore cut({.folder = other.folder,
                              .block_bytes = other.block_bytes,
                              .most_bytes = left,
                              .free_bytes = {},
                              .keep_free = 0,
                              .warn = options_.warn});
        bytes = cut.stats().bytes;
        evicted_ += cut.evicted_;
      } catch (const Error&) {  // not even one block fits
        remove_layout(other);
        evicted_ += static_cast<uint64_t>(other.blocks);
        bytes = 0;
      }
    }
    left -= bytes;
    aside_bytes_ += bytes;
  }
}

void BlockStore::begin_anew(const char* why) {
  const int64_t slots = files_->size() / slot_bytes_for(options_.block_bytes);
  damaged_ += static_cast<uint64_t>(std::max<int64_t>(slots, 1));
  warn("the index of the KV blocks in " + options_.folder.string() + " " + why +
       "; they are left out, and their prompts are computed again");
  files_->begin(options_.block_bytes);
}

void BlockStore::load() {
  std::optional<IndexContent> content = files_->read_index();
  if (files_->size() == 0) {
    files_->begin(options_.block_bytes);
    return;
  }
  if (!content) {
    begin_anew("is damaged");
    return;
  }
  if (content->block_bytes != options_.block_bytes) {
    begin_anew("is of another size and could not be put aside");
    return;
  }
  files_->use(options_.block_bytes);
  for (const auto& block : content->slots) {
    if (block) last_tick_ = std::max(last_tick_, block->tick);
  }
  if (const int64_t bad = content->damaged + content->lost; bad > 0) {
    damaged_ += static_cast<uint64_t>(bad);
    warn(std::to_string(bad) + " damaged or cut off records of KV blocks in " +
         options_.folder.string() + " were left out; their prompts are computed again");
  }
  index_ = DiskIndex(std::move(content->slots));
  int64_t slots = most_slots();
  if (options_.free_bytes) {
    const int64_t missing = options_.keep_free - options_.free_bytes();
    const int64_t slot = files_->slot_bytes();
    if (missing > 0) slots = std::min(slots, index_.slots() - (missing + slot - 1) / slot);
  }
  shrink(static_cast<int32_t>(std::max<int64_t>(slots, 0)));
}

// The blocks that are kept move to the first slots, and the files are cut behind them.
void BlockStore::shrink(int32_t slots) {
  if (index_.slots() > slots) {
    while (index_.blocks() > slots) {
      const auto oldest = index_.oldest_leaf();
      if (!oldest) break;
      evict(*oldest);
    }
    int32_t free = 0;
    for (int32_t i = slots; i < index_.slots(); ++i) {
      const SlotId from{i};
      if (!index_.at(from)) continue;
      while (free < slots && index_.at(SlotId{free})) ++free;
      if (free < slots) {
        move_block(from, SlotId{free});
      } else {
        index_.remove(from);
      }
    }
    index_.cut(slots);
  }
  files_->cut(index_.slots());  // also what was written beyond the last record
}

void BlockStore::move_block(SlotId from, SlotId to) {
  const StoredBlock block = *index_.at(from);
  index_.remove(from);
  std::vector<std::byte> bytes(static_cast<size_t>(options_.block_bytes));
  if (!files_->read_bytes(from, bytes)) return;
  files_->write_bytes(to, bytes);  // its checksum is the proof, as ever
  files_->write_record(to, block);
  index_.put(to, block);
}

bool BlockStore::holds(const BlockHash& hash) const {
  const std::lock_guard lock(mutex_);
  return index_.find(hash).has_value();
}

BlockStoreStats BlockStore::stats() const {
  const std::lock_guard lock(mutex_);
  return {.blocks = index_.blocks(),
          .bytes = int64_t{index_.slots()} * (files_->slot_bytes() + BlockFiles::kRecordBytes) +
                   BlockFiles::kRecordBytes + aside_bytes_,
          .damaged = damaged_,
          .evicted = evicted_};
}

uint64_t BlockStore::next_tick() {
  last_tick_ = std::max(last_tick_ + 1, unix_milliseconds());
  return last_tick_;
}

void BlockStore::evict(SlotId slot) {
  files_->clear_record(slot);
  const std::lock_guard lock(mutex_);
  index_.remove(slot);
  ++evicted_;
}

// A free slot: an empty one, one more, or that of the block that was used longest ago.
std::optional<SlotId> BlockStore::take_slot() {
  if (const auto slot = index_.free_slot()) return slot;
  const bool may_grow =
      !options_.free_bytes || options_.free_bytes() - files_->slot_bytes() >= options_.keep_free;
  if (index_.slots() < most_slots() && may_grow) {
    const std::lock_guard lock(mutex_);
    return index_.add_slot();
  }
  const auto oldest = index_.oldest_leaf();
  if (oldest) evict(*oldest);
  return oldest;
}

bool BlockStore::put(const BlockHash& hash, const std::optional<BlockHash>& parent,
                     std::span<const std::byte> bytes) {
  if (index_.find(hash)) return true;
  const auto slot = take_slot();
  if (!slot) return false;
  const StoredBlock block{
      .hash = hash, .parent = parent, .tick = next_tick(), .checksum = block_checksum(hash, bytes)};
  files_->write_bytes(*slot, bytes);
  files_->write_record(*slot, block);
  const std::lock_guard lock(mutex_);
  index_.put(*slot, block);
  return true;
}

bool BlockStore::get(const BlockHash& hash, std::span<std::byte> bytes) {
  const auto slot = index_.find(hash);
  if (!slot) return false;
  if (files_->read_bytes(*slot, bytes) &&
      block_checksum(hash, bytes) == index_.at(*slot)->checksum) {
    return true;
  }
  files_->clear_record(*slot);
  const std::lock_guard lock(mutex_);
  index_.remove(*slot);
  ++damaged_;
  if (!std::exchange(damage_told_, true)) {
    warn("a damaged KV block in " + options_.folder.string() +
         " was left out; its prompt is computed again (more are counted, not told)");
  }
  return false;
}

void BlockStore::touch(const BlockHash& hash) {
  const auto slot = index_.find(hash);
  if (!slot) return;
  const uint64_t tick = next_tick();
  {
    const std::lock_guard lock(mutex_);
    index_.touch(*slot, tick);
  }
  files_->write_record(*slot, *index_.at(*slot));
}

}  // namespace mlxr
