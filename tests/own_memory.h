// What this process takes of the machine's memory, for tests that hold it against a promise.
#pragma once

#include <malloc.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace mlxr::testing {

// Memory of our own, without pages of files. 0 where the system does not say, and under a
// sanitizer, which takes memory for itself.
inline int64_t own_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  ::malloc_trim(0);
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
#endif
  return 0;
}

}  // namespace mlxr::testing
