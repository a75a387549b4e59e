// What one caller may ask, by a clock of the test's own.
#include "daemon/server/auth/rate_limit.h"

#include <gtest/gtest.h>

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RateLimitTest : public ::testing::Test {
 protected:
  // 0: let in; else the seconds that Retry-After says.
  static int64_t begin(RateLimiter& limiter, const std::string& caller, milliseconds at) {
    try {
      limiter.begin(caller, kStart + at);
      return 0;
    } catch (const RequestError& error) {
      EXPECT_EQ(error.error().status, 429);
      EXPECT_EQ(error.error().code, "rate_limit_exceeded");
      return error.error().retry_after.count();
    }
  }
  static void end(RateLimiter& limiter, const std::string& caller, int64_t tokens,
                  milliseconds at) {
    limiter.end(caller, tokens, kStart + at);
  }
  static constexpr RateLimiter::Clock::time_point kStart{std::chrono::hours(1)};
};

TEST_F(RateLimitTest, WithoutLimitsEverybodyPasses) {
  RateLimiter limiter(RateLimits{});
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(begin(limiter, "a", milliseconds(0)), 0);
  }
}

TEST_F(RateLimitTest, RequestsComeBackAtTheirRate) {
  RateLimiter limiter({.requests_per_minute = 6});
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(begin(limiter, "a", seconds(0)), 0) << i;
  }
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 10);
  EXPECT_EQ(begin(limiter, "a", milliseconds(7500)), 3);
  EXPECT_EQ(begin(limiter, "a", seconds(10)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(10)), 10);
  EXPECT_EQ(begin(limiter, "b", seconds(10)), 0);
  int passed = 0;
  while (begin(limiter, "a", seconds(1000)) == 0) {
    ++passed;
  }
  EXPECT_EQ(passed, 6);
}

TEST_F(RateLimitTest, TokensAreTakenWhenTheyAreKnown) {
  RateLimiter limiter({.tokens_per_minute = 600});
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  end(limiter, "a", 599, seconds(0));
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  end(limiter, "a", 101, seconds(0));
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 11);
  EXPECT_EQ(begin(limiter, "b", seconds(0)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(11)), 0);
}

TEST_F(RateLimitTest, ARefusedRequestTakesNothing) {
  RateLimiter limiter(
      {.requests_per_minute = 2, .tokens_per_minute = 60, .concurrent_requests = 1});
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 1);
  end(limiter, "a", 70, seconds(0));
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 11);
  EXPECT_EQ(begin(limiter, "a", seconds(11)), 0);
}

TEST_F(RateLimitTest, OnlySoManyRunAtOnce) {
  RateLimiter limiter({.concurrent_requests = 2});
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 1);
  EXPECT_EQ(begin(limiter, "b", seconds(0)), 0);
  end(limiter, "a", 5, seconds(0));
  EXPECT_EQ(begin(limiter, "a", seconds(0)), 0);
  EXPECT_EQ(begin(limiter, "a", seconds(900)), 1);
}

TEST_F(RateLimitTest, IdleCallersAreForgotten) {
  RateLimiter limiter({.requests_per_minute = 60, .tokens_per_minute = 60});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(begin(limiter, std::to_string(i), seconds(0)), 0);
    if (i != 7) {
      end(limiter, std::to_string(i), i == 8 ? 600 : 1, seconds(0));
    }
  }
  EXPECT_EQ(limiter.callers(), 100U);
  EXPECT_EQ(begin(limiter, "new", seconds(120)), 0);
  EXPECT_EQ(limiter.callers(), 3U);  // 7 still runs, 8 is in debt
}

}  // namespace
}  // namespace mlxr
