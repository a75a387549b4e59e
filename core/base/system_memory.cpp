#include "core/base/system_memory.h"

#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace mlxr {
namespace fs = std::filesystem;
namespace {

// A file with one number. "max" is none.
std::optional<int64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::string text;
  int64_t number = 0;
  if (!(in >> text)) return std::nullopt;
  const auto end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  if (problem != std::errc() || stop != end) return std::nullopt;
  return number;
}

// Of a group and of those that it is in. Inside a container the path may not be there: then the
// root is the container's own group.
std::optional<int64_t> lowest(const fs::path& root, fs::path group, const char* file) {
  std::optional<int64_t> limit;
  while (true) {
    const auto here = number_in(root / group / file);
    if (here && *here > 0) limit = std::min(limit.value_or(*here), *here);
    if (group.empty()) return limit;
    group = group.parent_path();
  }
}

bool lists(const std::string& names, std::string_view wanted) {
  std::istringstream in(names);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == wanted) return true;
  }
  return false;
}

}  // namespace

std::optional<int64_t> cgroup_memory_limit(const std::string& membership, const fs::path& root) {
  std::optional<int64_t> limit;
  const auto consider = [&](std::optional<int64_t> found) {
    if (found) limit = std::min(limit.value_or(*found), *found);
  };
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "4:memory:/path", or "0::/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = fs::path(line.substr(second + 1)).relative_path();
    if (controllers.empty()) consider(lowest(root, group, "memory.max"));
    if (lists(controllers, "memory")) {
      consider(lowest(root / "memory", group, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

void return_freed_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

int64_t usable_memory() {
  const int64_t machine =
      static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
  std::ifstream in("/proc/self/cgroup");
  std::ostringstream text;
  text << in.rdbuf();
  // Version 1 writes "no limit" as a number larger than any machine.
  return std::min(machine, cgroup_memory_limit(text.str(), "/sys/fs/cgroup").value_or(machine));
}

}  // namespace mlxr
