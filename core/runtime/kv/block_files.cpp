#include "core/runtime/kv/block_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/error.h"

namespace mlxr {
namespace {

static_assert(std::endian::native == std::endian::little, "files are written as memory lies");

constexpr uint32_t kVersion = 1;
constexpr std::array<char, 8> kMagic = {'M', 'L', 'X', 'R', 'K', 'V', '\r', '\n'};
// Records are checked for damage, not for malice: who can write to the files owns them.
constexpr HashKey kRecordKey{0x6d6c78722d6b7631, 0x72656364722d6b76};
constexpr BlockHash kNoParent{};
constexpr int64_t kMostBlockBytes = int64_t{1} << 40;

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion, unused = 0;
  int64_t block_bytes = 0;
  std::array<uint64_t, 4> unused_words{};
  uint64_t checksum = 0;
};

struct Record {
  BlockHash hash, parent;
  uint64_t tick = 0, block_checksum = 0;
  uint32_t slot = 0, unused = 0;
  uint64_t checksum = 0;
};

static_assert(sizeof(Header) == BlockFiles::kRecordBytes);
static_assert(sizeof(Record) == BlockFiles::kRecordBytes);

// Of all but the checksum itself, which is last in both.
template <class T>
uint64_t checksum_of(const T& value) {
  return siphash128(kRecordKey, std::as_bytes(std::span(&value, 1)).first(sizeof(T) - 8)).low;
}

std::optional<StoredBlock> decode(const Record& record, size_t slot) {
  if (record.checksum != checksum_of(record) || record.slot != slot) return std::nullopt;
  return StoredBlock{
      .hash = record.hash,
      .parent = record.parent == kNoParent ? std::nullopt : std::optional(record.parent),
      .tick = record.tick,
      .checksum = record.block_checksum};
}

bool is_free(const Record& record) {
  const auto bytes = std::as_bytes(std::span(&record, 1));
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// How many of the records from `first` on are of blocks.
int64_t used_records(const OpenFile& index, int64_t first, int64_t count) {
  constexpr int64_t kAtOnce = 4096;
  int64_t used = 0;
  std::vector<Record> records;
  for (int64_t i = first; i < count; i += kAtOnce) {
    records.resize(static_cast<size_t>(std::min(kAtOnce, count - i)));
    const auto bytes = std::as_writable_bytes(std::span(records));
    records.resize(index.read(BlockFiles::kRecordBytes * (1 + i), bytes) / sizeof(Record));
    used += std::ranges::count_if(records, [](const Record& r) { return !is_free(r); });
  }
  return used;
}

}  // namespace

OpenFile::OpenFile(const std::filesystem::path& path, int flags)
    : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {
  if (fd_ < 0) fail("open");
}

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

void OpenFile::fail(const char* what) const {
  throw Error(ErrorCode::kIo,
              std::string("cannot ") + what + " " + path_.string() + ": " + std::strerror(errno));
}

int64_t OpenFile::size() const {
  struct stat found {};
  if (::fstat(fd_, &found) != 0) fail("examine");
  return found.st_size;
}

void OpenFile::resize(int64_t bytes) const {
  if (::ftruncate(fd_, bytes) != 0) fail("resize");
}

void OpenFile::write(int64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("write");
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
}

size_t OpenFile::read(int64_t offset, std::span<std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pread(fd_, bytes.data() + done, bytes.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

uint64_t block_checksum(const BlockHash& hash, std::span<const std::byte> bytes) {
  return siphash128({hash.low, hash.high}, bytes).low;
}

int64_t slot_bytes_for(int64_t block_bytes) {
  constexpr int64_t kPage = 4096;
  return (block_bytes + kPage - 1) / kPage * kPage;
}

BlockFiles::BlockFiles(const std::filesystem::path& folder)
    : index_(folder / "index", O_RDWR | O_CREAT), blocks_(folder / "blocks", O_RDWR | O_CREAT) {}

std::optional<int64_t> BlockFiles::read_block_bytes(const OpenFile& index) {
  Header header;
  const auto head = std::as_writable_bytes(std::span(&header, 1));
  if (index.read(0, head) < sizeof header || header.magic != kMagic || header.version != kVersion ||
      header.checksum != checksum_of(header) || header.block_bytes < 1 ||
      header.block_bytes > kMostBlockBytes) {
    return std::nullopt;
  }
  return header.block_bytes;
}

std::optional<IndexContent> BlockFiles::read_index(const OpenFile& index, const OpenFile& blocks) {
  const auto block_bytes = read_block_bytes(index);
  if (!block_bytes) return std::nullopt;
  IndexContent content{.block_bytes = *block_bytes, .slots = {}, .damaged = 0, .lost = 0};
  const int64_t slot_bytes = slot_bytes_for(*block_bytes);
  const int64_t reached = (blocks.size() + slot_bytes - 1) / slot_bytes;
  const int64_t recorded = index.size() / kRecordBytes - 1;
  const int64_t count = std::clamp<int64_t>(recorded, 0, std::min<int64_t>(reached, INT32_MAX));
  // The bytes of one block may be there before its record.
  content.lost = used_records(index, count, recorded) + std::max<int64_t>(0, reached - count - 1);
  std::vector<Record> records(static_cast<size_t>(count));
  const auto bytes = std::as_writable_bytes(std::span(records));
  records.resize(index.read(kRecordBytes, bytes) / sizeof(Record));
  content.slots.reserve(records.size());
  for (size_t slot = 0; slot < records.size(); ++slot) {
    content.slots.push_back(decode(records[slot], slot));
    if (!content.slots.back() && !is_free(records[slot])) ++content.damaged;
  }
  return content;
}

void BlockFiles::begin(int64_t block_bytes) {
  index_.resize(0);
  blocks_.resize(0);
  Header header;
  header.block_bytes = block_bytes;
  header.checksum = checksum_of(header);
  index_.write(0, std::as_bytes(std::span(&header, 1)));
  use(block_bytes);
}

void BlockFiles::use(int64_t block_bytes) { slot_bytes_ = slot_bytes_for(block_bytes); }

void BlockFiles::write_bytes(SlotId slot, std::span<const std::byte> bytes) const {
  blocks_.write(static_cast<int64_t>(slot) * slot_bytes_, bytes);
}

bool BlockFiles::read_bytes(SlotId slot, std::span<std::byte> bytes) const {
  return blocks_.read(static_cast<int64_t>(slot) * slot_bytes_, bytes) == bytes.size();
}

void BlockFiles::write_record(SlotId slot, const StoredBlock& block) const {
  Record record;
  record.hash = block.hash;
  record.parent = block.parent.value_or(kNoParent);
  record.tick = block.tick;
  record.block_checksum = block.checksum;
  record.slot = static_cast<uint32_t>(slot);
  record.checksum = checksum_of(record);
  index_.write(record_offset(slot), std::as_bytes(std::span(&record, 1)));
}

void BlockFiles::clear_record(SlotId slot) const {
  constexpr std::array<std::byte, kRecordBytes> kZeros{};
  index_.write(record_offset(slot), kZeros);
}

void BlockFiles::cut(int32_t slots) const {
  index_.resize(std::min(index_.size(), kRecordBytes * (1 + int64_t{slots})));
  blocks_.resize(std::min(blocks_.size(), int64_t{slots} * slot_bytes_));
}

}  // namespace mlxr
