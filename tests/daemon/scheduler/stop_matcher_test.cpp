#include "daemon/scheduler/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace mlxr {
namespace {

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("hello E"), "hello ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("x\n"), "ENx");
  EXPECT_EQ(matcher.push("y"), "\ny");
  EXPECT_EQ(matcher.push("..EN"), "..");
  EXPECT_EQ(matcher.push("D and more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.push("never"), "");
}

TEST(StopMatcher, GivesBackWhatItHeldAtTheEnd) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.push("do sto"), "do ");
  EXPECT_EQ(matcher.flush(), "sto");
  EXPECT_FALSE(matcher.matched());
}

// Over a tiny alphabet, so that near misses abound: the same as searching the whole text.
TEST(StopMatcher, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(3);
  const auto word = [&](size_t most) {
    std::string out;
    for (size_t n = 1 + random() % most; n > 0; --n) out += "ab"[random() % 2];
    return out;
  };
  for (int round = 0; round < 3000; ++round) {
    const std::vector<std::string> stops = {word(5), word(5), ""};
    std::string whole, got;
    StopMatcher matcher(stops);
    for (int piece = 0; piece < 6 && !matcher.matched(); ++piece) {
      const std::string text = word(4);
      whole += text;
      got += matcher.push(text);
    }
    if (!matcher.matched()) got += matcher.flush();
    size_t first = std::min(whole.find(stops[0]), whole.find(stops[1]));
    EXPECT_EQ(got, whole.substr(0, first)) << whole;
    EXPECT_EQ(matcher.matched(), first != std::string::npos);
  }
}

}  // namespace
}  // namespace mlxr
