// The two files that hold a model's KV blocks on disk, byte by byte. `blocks`: slots of one size,
// whole pages, one block each. `index`: a header, then a record of 64 bytes for each slot; zeros
// for a free one.
//
// A block is written so: its record is zeroed, its bytes are written, its record is written.
// Whatever is cut off or damaged, in whatever order the system brings it to the disk, one of two
// checksums tells: that of the record, or that of the bytes, which is seeded by the block's hash,
// so that a block never passes for another. So nothing is ever synced.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/kv/disk_index.h"

namespace mlxr {

// An open file. Move-only.
class OpenFile {
 public:
  // `flags` as for open(2); it is made, if so, with mode 0600. Throws Error{kIo} naming the path.
  OpenFile(const std::filesystem::path& path, int flags);
  ~OpenFile();
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&&) = delete;

  int64_t size() const;
  void resize(int64_t bytes) const;
  // Throws Error{kIo} naming the path, as when the disk is full.
  void write(int64_t offset, std::span<const std::byte> bytes) const;
  // How much was read: less than all at the end of the file, or where the disk cannot be read.
  size_t read(int64_t offset, std::span<std::byte> bytes) const;

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int fd_;
};

uint64_t block_checksum(const BlockHash& hash, std::span<const std::byte> bytes);

// What the index says.
struct IndexContent {
  int64_t block_bytes = 0;
  std::vector<std::optional<StoredBlock>> slots;
  int32_t damaged = 0;  // records that say nothing
  int64_t lost = 0;     // blocks whose record or bytes are not in the files any more
};

class BlockFiles {
 public:
  static constexpr int64_t kRecordBytes = 64;

  // Opens or makes both in the folder, for its owner alone.
  explicit BlockFiles(const std::filesystem::path& folder);

  // The size of the blocks; nothing when the index is of another version, or no index.
  static std::optional<int64_t> read_block_bytes(const OpenFile& index);
  // Nothing as there. Slots that `blocks` does not reach are left out.
  static std::optional<IndexContent> read_index(const OpenFile& index, const OpenFile& blocks);
  std::optional<IndexContent> read_index() const { return read_index(index_, blocks_); }
  // That both hold, in bytes.
  int64_t size() const { return index_.size() + blocks_.size(); }
  // Empties both, for blocks of this size.
  void begin(int64_t block_bytes);
  void use(int64_t block_bytes);  // as read_index() found them
  void write_bytes(SlotId slot, std::span<const std::byte> bytes) const;
  bool read_bytes(SlotId slot, std::span<std::byte> bytes) const;
  void write_record(SlotId slot, const StoredBlock& block) const;
  void clear_record(SlotId slot) const;
  void cut(int32_t slots) const;

  int64_t slot_bytes() const { return slot_bytes_; }

 private:
  int64_t record_offset(SlotId slot) const {
    return kRecordBytes * (1 + static_cast<int64_t>(slot));
  }

  OpenFile index_, blocks_;
  int64_t slot_bytes_ = 0;
};

// Of the file, whole pages: what a slot takes.
int64_t slot_bytes_for(int64_t block_bytes);

}  // namespace mlxr
