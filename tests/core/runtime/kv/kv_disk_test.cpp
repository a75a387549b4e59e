// The disk's thread: what is written comes back, nobody waits, and nothing outlives its owner.
#include "core/runtime/kv/kv_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "tests/core/temp_folder.h"

namespace mlxr {
namespace {

constexpr int64_t kBlockBytes = 1000;

BlockHash name(uint64_t number) { return {number + 1, ~number}; }

class KvDiskTest : public ::testing::Test {
 protected:
  std::unique_ptr<KvDisk> open(int64_t queue_blocks = 100,
                               std::function<int64_t()> free_bytes = {}) {
    auto store = std::make_unique<BlockStore>(BlockStoreOptions{.folder = folder_.path() / "m",
                                                                .block_bytes = kBlockBytes,
                                                                .most_bytes = 1 << 20,
                                                                .free_bytes = std::move(free_bytes),
                                                                .keep_free = 0,
                                                                .warn = {}});
    return std::make_unique<KvDisk>(
        std::move(store), KvDiskOptions{.queue_bytes = queue_blocks * kBlockBytes, .warn = {}});
  }
  static void write(KvDisk& disk, uint64_t number) {
    disk.write(name(number), std::nullopt, [&](std::span<std::byte> to) {
      std::ranges::fill(to, static_cast<std::byte>(number));
    });
  }

  testing::TempFolder folder_;
};

TEST_F(KvDiskTest, WhatWaitsIsWrittenBeforeItEnds) {
  {
    const auto disk = open();
    for (uint64_t i = 0; i < 50; ++i) {
      write(*disk, i);
      EXPECT_TRUE(disk->knows(name(i)));
    }
    EXPECT_FALSE(disk->knows(name(50)));
  }
  const auto disk = open();
  EXPECT_EQ(disk->stats().store.blocks, 50);
  std::promise<void> done;
  disk->on_change([&] { done.set_value(); });
  const auto reading = disk->read({name(3), name(4), name(60), name(5)});
  done.get_future().wait();
  ASSERT_TRUE(reading.done());
  ASSERT_EQ(reading.found(), 2u);  // what follows a gap is of no use
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(reading.bytes(i).size(), static_cast<size_t>(kBlockBytes));
    EXPECT_TRUE(std::ranges::all_of(
        reading.bytes(i), [&](std::byte b) { return b == static_cast<std::byte>(3 + i); }));
  }
  EXPECT_EQ(disk->stats().read, 2u);
}

// Holds the disk's thread at its next write, once armed.
class Hold {
 public:
  std::function<int64_t()> free_bytes() {
    return [this, opened = opened_.get_future().share()] {
      if (!armed_) return int64_t{1} << 30;
      if (!std::exchange(entered_once_, true)) entered_.set_value();
      opened.wait();
      return int64_t{1} << 30;
    };
  }
  void arm() { armed_ = true; }
  void wait() { entered_.get_future().wait(); }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> entered_, opened_;
  std::atomic<bool> armed_ = false;
  bool entered_once_ = false;  // the disk's thread's own
};

TEST_F(KvDiskTest, AFullQueueSaysSoAndTellsWhenThereIsRoom) {
  Hold hold;
  const auto disk = open(2, hold.free_bytes());
  hold.arm();
  write(*disk, 0);
  hold.wait();  // 0 is under way
  write(*disk, 1);
  EXPECT_TRUE(disk->has_room());
  write(*disk, 2);
  EXPECT_FALSE(disk->has_room());
  std::promise<void> told;
  std::atomic<int> calls = 0;
  disk->on_change([&] {
    if (calls++ == 0) told.set_value();
  });
  hold.open();
  told.get_future().wait();
  EXPECT_TRUE(disk->has_room());
}

TEST_F(KvDiskTest, ReadingsGoFirstAndMayBeGivenUp) {
  {
    const auto disk = open();
    for (uint64_t i = 0; i < 4; ++i) write(*disk, i);
  }
  Hold hold;
  std::atomic<int> calls = 0;
  std::promise<void> second;  // before the disk, whose thread uses them
  const auto disk = open(100, hold.free_bytes());
  hold.arm();
  disk->on_change([&] {
    if (++calls == 2) second.set_value();
  });
  write(*disk, 10);
  hold.wait();
  for (uint64_t i = 11; i < 40; ++i) write(*disk, i);
  KvDisk::Reading unwanted = disk->read({name(0), name(1)});
  const KvDisk::Reading wanted = disk->read({name(2), name(3)});
  unwanted = {};
  hold.open();
  second.get_future().wait();
  EXPECT_TRUE(wanted.done());
  EXPECT_EQ(wanted.found(), 2u);
  EXPECT_EQ(disk->stats().read, 2u);
}

TEST_F(KvDiskTest, AReadingMayOutliveTheDisk) {
  std::optional<KvDisk::Reading> reading;
  {
    const auto disk = open();
    write(*disk, 0);
    reading = disk->read({name(0)});
  }
  EXPECT_TRUE(reading->done());
}

TEST_F(KvDiskTest, NobodyIsCalledAfterDetaching) {
  const auto disk = open(1);
  for (int i = 0; i < 200; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    disk->on_change([counter = alive.get()] { ++*counter; });
    const auto reading = disk->read({name(99)});
    disk->on_change(nullptr);
  }
}

}  // namespace
}  // namespace mlxr
