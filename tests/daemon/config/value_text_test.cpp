// Values as people write them in files, variables and flags.
#include "daemon/config/value_text.h"

#include <gtest/gtest.h>

namespace mlxr {
namespace {

TEST(ParseBytes, UnderstandsUnits) {
  EXPECT_EQ(parse_bytes("0"), 0);
  EXPECT_EQ(parse_bytes("1048576"), 1048576);
  EXPECT_EQ(parse_bytes("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("1.5 MiB"), 3 << 19);
  EXPECT_EQ(parse_bytes("100mb"), 100000000);
  EXPECT_EQ(parse_bytes("7B"), 7);
}

TEST(ParseBytes, RefusesTheRest) {
  for (const char* text : {"", "GiB", "-1", "2 apples", "1.5", "nan", "1e30TiB", "2GiBs"}) {
    EXPECT_THROW(parse_bytes(text), BadValue) << text;
  }
}

TEST(ParseInteger, KeepsToItsRange) {
  EXPECT_EQ(parse_integer("65535", 0, 65535), 65535);
  for (const char* text : {"65536", "-1", "80x", "", "1.0", " 1"}) {
    EXPECT_THROW(parse_integer(text, 0, 65535), BadValue) << text;
  }
}

TEST(ParseNumber, KeepsToItsRange) {
  EXPECT_DOUBLE_EQ(parse_number("0.25", 0, 1), 0.25);
  for (const char* text : {"1.01", "inf", "nan", "half", ""}) {
    EXPECT_THROW(parse_number(text, 0, 1), BadValue) << text;
  }
}

TEST(ParseChoice, NamesTheChoices) {
  EXPECT_EQ(parse_choice("f16", {"f16", "f32"}), "f16");
  try {
    parse_choice("f64", {"f16", "f32"});
    FAIL();
  } catch (const BadValue& bad) {
    EXPECT_STREQ(bad.what(), "one of f16, f32");
  }
}

TEST(NearestName, FindsTyposAndNothingElse) {
  const std::vector<std::string> known{"port", "socket", "max_queue"};
  EXPECT_EQ(nearest_name("prot", known), "port");
  EXPECT_EQ(nearest_name("max_queu", known), "max_queue");
  EXPECT_EQ(nearest_name("telemetry", known), "");
}

}  // namespace
}  // namespace mlxr
