#include "daemon/scheduler/file_stamp.h"

#include <sys/stat.h>

#include <set>

namespace mlxr {
namespace fs = std::filesystem;
namespace {

std::string stamp_of_file(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
#ifdef __APPLE__
  const timespec& changed = info.st_mtimespec;
#else
  const timespec& changed = info.st_mtim;
#endif
  return std::to_string(info.st_ino) + ' ' + std::to_string(info.st_size) + ' ' +
         std::to_string(changed.tv_sec) + '.' + std::to_string(changed.tv_nsec) + '\n';
}

}  // namespace

std::string file_stamp(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return stamp_of_file(path);
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, ignored)) files.insert(entry.path());
  std::string stamp;
  for (const fs::path& file : files) stamp += stamp_of_file(file);
  return stamp;
}

}  // namespace mlxr
