#include "daemon/registry/blob_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mlxr {
namespace fs = std::filesystem;
namespace {

constexpr size_t kHexDigits = 64;

[[noreturn]] void fail(const std::string& what, const fs::path& path) {
  throw Error(ErrorCode::kIo, what + " " + path.string() + ": " + std::strerror(errno));
}

std::string hex_of(const std::string& digest) {
  const bool named = digest.starts_with("sha256:") || digest.starts_with("sha256-");
  const std::string hex = named ? digest.substr(7) : "";
  const bool is_hex =
      hex.size() == kHexDigits && hex.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!is_hex) {
    throw Error(ErrorCode::kInvalidArgument,
                "\"" + digest +
                    "\" is no digest: it must be \"sha256:\" and 64 lower-case hexadecimal digits");
  }
  return hex;
}

}  // namespace

fs::path BlobStore::path(const std::string& digest) const {
  return folder_ / ("sha256-" + hex_of(digest));
}

bool BlobStore::has(const std::string& digest) const {
  std::error_code ignored;
  return fs::is_regular_file(path(digest), ignored);
}

BlobStore::Upload::Upload(const BlobStore& store, const std::string& digest)
    : target_(store.path(digest)), expected_(hex_of(digest)) {
  std::error_code problem;
  fs::create_directories(store.folder(), problem);
  // Two uploads of one blob do not meet.
  part_ = target_.string() + ".part-XXXXXX";
  std::string name = part_.string();
  file_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (file_ < 0) {
    fail("cannot write", part_);
  }
  part_ = name;
}

BlobStore::Upload::~Upload() {
  if (file_ >= 0) {
    ::close(file_);
    ::unlink(part_.c_str());
  }
}

void BlobStore::Upload::write(std::string_view piece) {
  hash_.update(piece);
  while (!piece.empty()) {
    const ssize_t count = ::write(file_, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      fail("cannot write", part_);
    }
    piece.remove_prefix(static_cast<size_t>(count));
  }
}

void BlobStore::Upload::commit() {
  const std::string found = hash_.finish();
  if (found != expected_) {
    throw Error(ErrorCode::kInvalidArgument, "the content's digest is sha256:" + found +
                                                 ", not sha256:" + expected_ +
                                                 "; nothing was kept");
  }
  if (::fsync(file_) != 0) {
    fail("cannot write", part_);
  }
  if (::rename(part_.c_str(), target_.c_str()) != 0) {
    fail("cannot name", target_);
  }
  ::close(file_);
  file_ = -1;
}

}  // namespace mlxr
