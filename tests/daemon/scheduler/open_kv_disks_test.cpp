// A model that leaves while it answers and the copy that follows it use the same blocks on disk.
#include "daemon/scheduler/open_kv_disks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "tests/core/temp_folder.h"

namespace mlxr {
namespace {

constexpr int64_t kBlockBytes = 1000;

BlockHash name(uint64_t number) { return {number + 1, ~number}; }

class OpenKvDisksTest : public ::testing::Test {
 protected:
  std::unique_ptr<KvDisk> open(int64_t block_bytes = kBlockBytes) {
    return disks_->open({.folder = folder_.path() / "m",
                         .block_bytes = block_bytes,
                         .most_bytes = 1 << 24,
                         .free_bytes = {},
                         .keep_free = 0,
                         .warn = {}},
                        {.warn = {}});
  }
  static void write(KvDisk& disk, uint64_t number) {
    disk.write(name(number), std::nullopt, [&](std::span<std::byte> to) {
      std::ranges::fill(to, static_cast<std::byte>(number));
    });
  }

  testing::TempFolder folder_;
  std::optional<OpenKvDisks> disks_{std::in_place};
};

TEST_F(OpenKvDisksTest, TheNextCopySharesThemAndNoBlockIsLost) {
  auto old = open();
  for (uint64_t i = 0; i < 20; ++i) write(*old, i);
  auto next = open();
  for (uint64_t i = 0; i < 20; ++i) EXPECT_TRUE(next->knows(name(i)));
  for (uint64_t i = 20; i < 30; ++i) write(*next, i);
  for (uint64_t i = 30; i < 40; ++i) write(*old, i);
  old.reset();
  EXPECT_TRUE(next->knows(name(35)));
  next.reset();
  const auto again = open();
  EXPECT_EQ(again->stats().store.blocks, 40);
}

TEST_F(OpenKvDisksTest, EachHasCountsOfItsOwn) {
  const auto old = open(), next = open();
  for (uint64_t i = 0; i < 7; ++i) write(*old, i);
  const auto written = [](const KvDisk& disk) { return disk.stats().written; };
  for (int i = 0; i < 30000 && written(*old) < 7; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(written(*old), 7u);
  EXPECT_EQ(written(*next), 0u);
}

TEST_F(OpenKvDisksTest, BlocksOfAnotherSizeAreRefusedWhileItAnswers) {
  {
    const auto old = open();
    EXPECT_THROW(open(kBlockBytes + 1), Error);
    write(*old, 1);
  }
  const auto other = open(kBlockBytes + 1);
  EXPECT_EQ(other->stats().store.blocks, 0);
}

TEST_F(OpenKvDisksTest, MayBeOpenedAndClosedByManyThreads) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 50; ++i) write(*open(), 100 * t + i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto all = open();
  EXPECT_EQ(all->stats().store.blocks, 200);
  disks_.reset();  // what it opened outlives it
  write(*all, 999);
}

}  // namespace
}  // namespace mlxr
