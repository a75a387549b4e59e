// How much one caller may ask: requests and tokens a minute, and requests at the same time. Callers
// without a key are one.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace mlxr {

struct RateLimits {  // 0: no limit
  int32_t requests_per_minute = 0;
  int32_t tokens_per_minute = 0;  // prompts' that were computed, and generated ones
  int32_t concurrent_requests = 0;
};

// Two buckets a caller, each filled at its rate up to one minute's worth. A request is taken from
// its bucket when it comes, its tokens when it ends, since nobody knows before how many they are:
// their bucket may go below nothing, and then nobody is let in until it is above again.
// Thread-safe.
class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  explicit RateLimiter(const RateLimits& limits) : limits_(limits) {}

  // A request of this caller begins. Throws RequestError (429) saying which limit and when to come
  // again; then it has not begun.
  void begin(const std::string& caller, Clock::time_point now);
  // It ended, after this many tokens.
  void end(const std::string& caller, int64_t tokens, Clock::time_point now);

  size_t callers() const;  // remembered

 private:
  struct Account {
    double requests = 0, tokens = 0;  // left
    int32_t running = 0;
    Clock::time_point filled;
  };
  Account& account(const std::string& caller, Clock::time_point now);
  void fill(Account& account, Clock::time_point now) const;
  bool is_full(const Account& account) const;
  void forget_idle(Clock::time_point now);

  const RateLimits limits_;
  mutable std::mutex mutex_;
  std::map<std::string, Account> accounts_;
  Clock::time_point swept_;
};

}  // namespace mlxr
