// One process at a time: a lock that its holder's end releases, however it ends.
#pragma once

#include <filesystem>
#include <memory>

namespace mlxr {

// Waits until nobody else holds the lock of this file, which is made (mode 0600) and stays.
class FileLock {
 public:
  // Throws Error{kIo} naming the path.
  explicit FileLock(const std::filesystem::path& path);
  // Does not wait: null when somebody else holds it. Throws Error{kIo} naming the path.
  static std::unique_ptr<FileLock> try_take(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace mlxr
