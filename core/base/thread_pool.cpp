#include "core/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mlxr {
namespace {

// About 50 us on the machines tried: longer than the pauses between the loops of a decode step,
// shorter than anyone would notice as load.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

// A loop is published by its fields, then `open`, then `epoch`. A worker enters by counting itself
// in `inside` and then finding the loop open; the caller leaves by closing it and then waiting for
// `inside` to be zero. Both are sequentially consistent, so either the worker sees the loop closed
// or the caller sees the worker. A worker that wakes late costs nobody anything.
struct ThreadPool::State {
  std::mutex callers;
  std::atomic<uint32_t> epoch{0};
  std::atomic<int> sleepers{0};
  std::atomic<bool> open{false};
  std::atomic<bool> stop{false};
  std::atomic<int> inside{0};

  std::atomic<int64_t> next{0};
  int64_t count = 0;
  int64_t grain = 1;
  bool shrinking = false;
  int64_t shares = 2;  // of a shrinking loop: two a thread
  const std::function<void(int64_t, int64_t, int)>* body = nullptr;
  std::atomic<bool> failed{false};
  std::exception_ptr failure;

  std::vector<std::thread> threads;

  void work(int worker) {
    try {
      for (;;) {
        int64_t begin = next.load(std::memory_order_relaxed), take = 0;
        do {
          if (begin >= count) return;
          take = shrinking ? std::max(grain, (count - begin) / shares) : grain;
        } while (!next.compare_exchange_weak(begin, begin + take, std::memory_order_relaxed));
        (*body)(begin, std::min(begin + take, count), worker);
      }
    } catch (...) {
      next.store(count);  // nobody starts another range
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }

  void run_worker(int worker) {
    uint32_t seen = 0;
    while (!stop) {
      seen = wait_for_work(seen);
      inside.fetch_add(1);
      if (open.load()) work(worker);
      inside.fetch_sub(1);
    }
  }

  uint32_t wait_for_work(uint32_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      const uint32_t now = epoch.load(std::memory_order_acquire);
      if (now != seen) return now;
      pause();
    }
    sleepers.fetch_add(1);
    epoch.wait(seen);
    sleepers.fetch_sub(1);
    return epoch.load();
  }

  void wake() {
    epoch.fetch_add(1);
    if (sleepers.load() > 0) epoch.notify_all();
  }
};

ThreadPool::ThreadPool(int threads)
    : size_(threads > 0 ? threads : usable_cores()), state_(std::make_unique<State>()) {
  for (int worker = 1; worker < size_; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker] { state->run_worker(worker); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop = true;
  state_->wake();
  for (std::thread& thread : state_->threads) thread.join();
}

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t, int)>& body) {
  run(count, grain, false, body);
}

void ThreadPool::parallel_ranges(int64_t count, int64_t least,
                                 const std::function<void(int64_t, int64_t, int)>& body) {
  if (size_ == 1 && count > 0) {
    const std::lock_guard lock(state_->callers);
    return body(0, count, 0);
  }
  run(count, least, true, body);
}

void ThreadPool::run(int64_t count, int64_t grain, bool shrinking,
                     const std::function<void(int64_t, int64_t, int)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  State& s = *state_;
  const std::lock_guard lock(s.callers);
  if (size_ == 1 || count <= grain) {
    for (int64_t begin = 0; begin < count; begin += grain) {
      body(begin, std::min(begin + grain, count), 0);
    }
    return;
  }
  s.count = count;
  s.grain = grain;
  s.shrinking = shrinking;
  s.shares = 2 * size_;
  s.body = &body;
  s.next.store(0);
  s.open.store(true);
  s.wake();
  s.work(0);
  s.open.store(false);
  for (int i = 0; s.inside.load() != 0; ++i) {
    if (i < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // a worker was descheduled inside its range
    }
  }
  if (s.failed.exchange(false)) std::rethrow_exception(std::exchange(s.failure, nullptr));
}

namespace {

// Cores of the cgroup's CPU quota, or `most` without one. v2: "quota period" or "max period".
int quota_cores(int most) {
  long quota = 0, period = 0;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  if (!(v2 >> quota >> period)) {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return most;
  return std::clamp(static_cast<int>((quota + period - 1) / period), 1, most);
}

}  // namespace

int usable_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    // Hardware threads of one core share its vector units: count cores, by their list of siblings.
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      std::string siblings = std::to_string(cpu);
      std::ifstream("/sys/devices/system/cpu/cpu" + siblings + "/topology/thread_siblings_list") >>
          siblings;
      cores.insert(siblings);
    }
    return quota_cores(std::max<int>(1, static_cast<int>(cores.size())));
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace mlxr
