#include "core/base/mapped_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/lost_pages.h"
#include "tests/core/temp_folder.h"

namespace mlxr {
namespace {

const auto kPage = static_cast<size_t>(::getpagesize());

class MappedFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ::sigaction(SIGBUS, nullptr, &before_); }
  void TearDown() override { ::sigaction(SIGBUS, &before_, nullptr); }

  std::shared_ptr<const MappedFile> open(const std::string& name, size_t pages) {
    write_file_atomic(folder_.path() / name, std::string(pages * kPage, 'x'));
    return MappedFile::open(folder_.path() / name);
  }

  struct sigaction before_ {};
  const testing::TempFolder folder_;
};

int64_t count(std::span<const std::byte> bytes, char value) {
  return std::ranges::count(bytes, static_cast<std::byte>(value));
}

TEST_F(MappedFileTest, ReadsZerosOfWhatWasCutOffAndSaysSo) {
  survive_lost_pages();
  const auto other = open("other", 4), cut = open("cut", 8);
  std::filesystem::resize_file(cut->path(), 3 * kPage);
  cut->check_intact();  // nobody has read it
  EXPECT_EQ(count(cut->bytes(), 'x'), static_cast<int64_t>(3 * kPage));
  EXPECT_EQ(count(cut->bytes(), '\0'), static_cast<int64_t>(5 * kPage));
  try {
    cut->check_intact();
    FAIL() << "intact";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    EXPECT_NE(std::string(error.what()).find(cut->path().string()), std::string::npos);
  }
  EXPECT_EQ(count(other->bytes(), 'x'), static_cast<int64_t>(4 * kPage));
  other->check_intact();
}

TEST_F(MappedFileTest, IsWatchedAnewWhenItIsMappedAgain) {
  survive_lost_pages();
  std::shared_ptr<const MappedFile> file = open("file", 1);
  for (int i = 0; i < 5000; ++i) file = MappedFile::open(file->path());  // more than are watched
  file->check_intact();
  std::filesystem::resize_file(file->path(), 0);
  EXPECT_EQ(count(file->bytes(), '\0'), static_cast<int64_t>(kPage));
  EXPECT_THROW(file->check_intact(), Error);
}

TEST_F(MappedFileTest, OtherBusErrorsEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        survive_lost_pages();
        ::raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace mlxr
