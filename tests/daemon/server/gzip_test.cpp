// gzip, against itself and against what the gzip program made.
#include "daemon/server/http/gzip.h"

#include <gtest/gtest.h>

namespace mlxr {
namespace {

constexpr size_t kAny = 1 << 24;

std::string noise(size_t size) {
  std::string text;
  uint32_t state = 1;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += static_cast<char>(state >> 24);
  }
  return text;
}

TEST(Gzip, RoundTrips) {
  for (const std::string& text :
       {std::string(), std::string("a"), std::string(1000000, 'x'), noise(300000)}) {
    const std::string packed = gzip(text);
    EXPECT_EQ(gunzip(packed, kAny), text);
  }
  EXPECT_LT(gzip(std::string(1000000, 'x')).size(), 2000U);
}

TEST(Gzip, ReadsWhatTheProgramWrites) {
  // printf 'hello hello hello\n' > note; gzip -9 note: with its name in the head.
  const std::string packed(
      "\x1f\x8b\x08\x08\x00\x00\x00\x00\x02\x03\x6e\x6f\x74\x65\x00\xcb\x48\xcd\xc9\xc9"
      "\x57\xc8\x40\x90\x5c\x00\x3b\x7c\x8a\xdf\x12\x00\x00\x00",
      34);
  const auto text = gunzip(packed, kAny);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(*text, "hello hello hello\n");
}

TEST(Gzip, RefusesWhatIsCutOrDamaged) {
  const std::string packed = gzip("some text that is long enough to be packed, packed, packed");
  for (size_t size = 0; size < packed.size(); ++size) {
    EXPECT_FALSE(gunzip(packed.substr(0, size), kAny).has_value()) << size;
  }
  EXPECT_FALSE(gunzip(packed + "x", kAny).has_value());
  for (size_t at :
       {size_t{0}, size_t{2}, packed.size() - 9, packed.size() - 8, packed.size() - 1}) {
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    EXPECT_FALSE(gunzip(damaged, kAny).has_value()) << at;
  }
}

TEST(Gzip, StopsOneByteAfterTheLimit) {
  const std::string packed = gzip(std::string(5000000, 'x'));
  EXPECT_EQ(gunzip(packed, 1000)->size(), 1001U);
  EXPECT_EQ(gunzip(packed, 5000000)->size(), 5000000U);
}

TEST(AcceptEncoding, IsRead) {
  EXPECT_TRUE(accepts_gzip("gzip"));
  EXPECT_TRUE(accepts_gzip("deflate, GZIP;q=0.5"));
  EXPECT_TRUE(accepts_gzip("*"));
  EXPECT_FALSE(accepts_gzip(""));
  EXPECT_FALSE(accepts_gzip("deflate, br"));
  EXPECT_FALSE(accepts_gzip("gzip;q=0, br"));
}

}  // namespace
}  // namespace mlxr
