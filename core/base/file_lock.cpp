#include "core/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace mlxr {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, int reason) {
  throw Error(ErrorCode::kIo, "cannot lock " + path.string() + ": " + std::strerror(reason));
}

int open_lock(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) refuse(path, errno);
  return fd;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& path) : fd_(open_lock(path)) {
  if (::flock(fd_, LOCK_EX) == 0) return;
  const int reason = errno;
  ::close(fd_);
  refuse(path, reason);
}

std::unique_ptr<FileLock> FileLock::try_take(const std::filesystem::path& path) {
  const int fd = open_lock(path);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return std::unique_ptr<FileLock>(new FileLock(fd));
  const int reason = errno;
  ::close(fd);
  if (reason == EWOULDBLOCK) return nullptr;
  refuse(path, reason);
}

FileLock::~FileLock() { ::close(fd_); }

}  // namespace mlxr
