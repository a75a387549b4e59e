#include "core/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mlxr {

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int reason = errno;
    throw Error(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                "cannot open " + path.string() + ": " + std::strerror(reason));
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error(ErrorCode::kIo, path.string() + " is not a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    ::close(fd);
    throw Error(ErrorCode::kCorruptFile, path.string() + " is empty; download or copy it again");
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  const int reason = errno;
  ::close(fd);
  if (data == MAP_FAILED) {
    throw Error(ErrorCode::kIo, "cannot map " + path.string() + ": " + std::strerror(reason));
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const std::byte*>(data), size));
}

void MappedFile::release_pages() const {
  ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

void MappedFile::check_intact() const {
  if (!lost()) return;
  throw Error(ErrorCode::kCorruptFile,
              path_.string() +
                  " became shorter or unreadable while it was in use; put it back, or download it "
                  "again");
}

MappedFile::~MappedFile() {
  watched_.reset();
  ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace mlxr
