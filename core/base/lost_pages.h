// A mapped file that becomes shorter (a download over it, `cp` onto it), or that the disk cannot
// read any more, loses pages. Reading one would end the process (SIGBUS); here it reads zeros
// instead, and whoever used them is told.
#pragma once

#include <cstddef>

namespace mlxr {

// Takes SIGBUS for this process, once at its start. Signals have one handler a process, so this is
// the program's to decide, not the library's; without it WatchedPages never lose any.
void survive_lost_pages();

// A mapping that is to survive. Neither copied nor moved: the handler knows where it is.
class WatchedPages {
 public:
  // There is room for 4,096 of them; what comes beyond is not watched.
  WatchedPages(const void* data, size_t size);
  // Before the mapping goes.
  ~WatchedPages();
  WatchedPages(const WatchedPages&) = delete;
  WatchedPages& operator=(const WatchedPages&) = delete;

  // True from then on; what is behind the first lost page reads as zeros, too.
  bool lost() const;

 private:
  struct Range;
  static Range ranges_[];
  static void on_bus_error(int number, void* address);
  friend void survive_lost_pages();

  Range* range_ = nullptr;
};

}  // namespace mlxr
