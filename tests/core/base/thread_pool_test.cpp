#include "core/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace mlxr {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceInAlignedRanges) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    for (int64_t count : {1, 2, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LE(end - begin, grain);
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const auto& n : seen) EXPECT_EQ(n, 1);
      }
    }
    pool.parallel_for(0, 1, [](int64_t, int64_t, int) { FAIL(); });
  }
}

TEST(ThreadPool, ShrinkingRangesCoverEveryIndexOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t count : {1, 2, 7, 64, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      std::atomic<int> ranges{0};
      pool.parallel_ranges(count, 3, [&](int64_t begin, int64_t end, int) {
        ++ranges;
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (const auto& n : seen) EXPECT_EQ(n, 1);
      EXPECT_LE(ranges, 1 + 12 * threads);
    }
  }
}

TEST(ThreadPool, ManyShortLoopsInARowLoseNothing) {
  ThreadPool pool(3);
  int64_t total = 0;
  for (int round = 0; round < 20000; ++round) {
    std::atomic<int64_t> sum{0};
    pool.parallel_for(6, 1, [&](int64_t begin, int64_t, int) { sum += begin + 1; });
    total += sum;
  }
  EXPECT_EQ(total, 20000 * 21);
}

TEST(ThreadPool, WorkersThatWentToSleepWakeUp) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> ran{0};
    pool.parallel_for(50, 1, [&](int64_t, int64_t, int) { ++ran; });
    EXPECT_EQ(ran, 50);
  }
}

TEST(ThreadPool, TheFirstExceptionReachesTheCallerAndThePoolGoesOn) {
  ThreadPool pool(3);
  const auto failing = [](int64_t begin, int64_t, int) {
    if (begin == 17) throw std::runtime_error("seventeen");
  };
  EXPECT_THROW(pool.parallel_for(1000, 1, failing), std::runtime_error);
  std::atomic<int> ran{0};
  pool.parallel_for(100, 1, [&](int64_t, int64_t, int) { ++ran; });
  EXPECT_EQ(ran, 100);
}

TEST(ThreadPool, ConcurrentCallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> inside{0}, total{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        pool.parallel_for(4, 1, [&](int64_t, int64_t, int) {
          EXPECT_LE(++inside, 2);
          ++total;
          --inside;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 200 * 4);
}

TEST(ThreadPool, KnowsHowManyCoresItMayUse) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_EQ(ThreadPool(0).size(), usable_cores());
}

}  // namespace
}  // namespace mlxr
