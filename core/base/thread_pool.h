// A persistent pool for data-parallel loops. Threads spin briefly after work, then sleep, so that a
// decode step (hundreds of short loops) does not pay a wake-up for each, and an idle daemon uses no
// CPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace mlxr {

class ThreadPool {
 public:
  // `threads` counts the caller: a pool of 1 starts none. 0: the number of physical cores that this
  // process may use.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  int size() const { return size_; }

  // Calls body(begin, end, worker) over disjoint ranges that cover [0, count), each at most `grain`
  // long and starting at a multiple of it; worker is in [0, size()). Ranges are claimed
  // dynamically. Returns when all are done; the first exception is rethrown. One loop at a time:
  // concurrent callers wait for each other. Not re-entrant.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end, int worker)>& body);

  // The same in long ranges that shrink towards the end: half of a thread's share of what is left,
  // at least `least`. For loops that stream through memory, where each new range begins slowly.
  void parallel_ranges(int64_t count, int64_t least,
                       const std::function<void(int64_t begin, int64_t end, int worker)>& body);

 private:
  void run(int64_t count, int64_t grain, bool shrinking,
           const std::function<void(int64_t, int64_t, int)>& body);

  struct State;
  int size_;
  std::unique_ptr<State> state_;
};

// Physical cores that this process may use (affinity and cgroup quota respected), at least 1.
int usable_cores();

}  // namespace mlxr
