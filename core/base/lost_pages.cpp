#include "core/base/lost_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

namespace mlxr {
namespace {

constexpr int kMostRanges = 4096;
constexpr uintptr_t kFree = 0, kTaken = 1;  // of `begin`: no address

}  // namespace

// A handler may neither lock nor allocate, so that the ranges lie in a table of atomics.
struct WatchedPages::Range {
  std::atomic<uintptr_t> begin{kFree};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
};
WatchedPages::Range WatchedPages::ranges_[kMostRanges];

WatchedPages::WatchedPages(const void* data, size_t size) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  for (Range& range : ranges_) {
    uintptr_t expected = kFree;
    if (!range.begin.compare_exchange_strong(expected, kTaken)) continue;
    range.end = address + size;
    range.lost = false;
    range.begin = address;
    range_ = &range;
    return;
  }
}

WatchedPages::~WatchedPages() {
  if (range_ != nullptr) range_->begin = kFree;
}

bool WatchedPages::lost() const { return range_ != nullptr && range_->lost; }

// A file that ends before this page ends before all that follow it: all of them become zeros at
// once, and the instruction runs again.
void WatchedPages::on_bus_error(int number, void* address) {
  const int kept = errno;
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (Range& range : ranges_) {
    const uintptr_t begin = range.begin, end = range.end;
    const bool same = range.begin == begin;  // else the slot went to another mapping meanwhile
    if (begin <= kTaken || !same || at < begin || at >= end) continue;
    const uintptr_t page = at - at % static_cast<uintptr_t>(::getpagesize());
    range.lost = true;  // before anyone can read a zero
    void* zeros = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                         MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED) break;
    errno = kept;
    return;
  }
  ::signal(number, SIG_DFL);  // none of ours: it ends the process, once this handler returns
  ::raise(number);
}

void survive_lost_pages() {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int number, siginfo_t* info, void*) {
    WatchedPages::on_bus_error(number, info->si_addr);
  };
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace mlxr
