#include "daemon/server/auth/rate_limit.h"

#include <algorithm>
#include <cmath>

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

constexpr std::chrono::minutes kSweepEvery{1};

[[noreturn]] void refuse(const std::string& what, const std::string& setting, double wait_seconds) {
  ApiError error{429, what + " (setting " + setting + "); ask again later", "rate_limit_error", "",
                 "rate_limit_exceeded"};
  error.retry_after = std::chrono::seconds(std::llround(std::ceil(wait_seconds)));
  throw RequestError(error);
}

double per_second(int32_t per_minute) { return per_minute / 60.0; }

}  // namespace

void RateLimiter::fill(Account& account, Clock::time_point now) const {
  const double seconds = std::chrono::duration<double>(now - account.filled).count();
  const auto filled = [seconds](double left, int32_t per_minute) {
    return std::min<double>(per_minute, left + seconds * per_second(per_minute));
  };
  account.requests = filled(account.requests, limits_.requests_per_minute);
  account.tokens = filled(account.tokens, limits_.tokens_per_minute);
  account.filled = now;
}

bool RateLimiter::is_full(const Account& account) const {
  return account.running == 0 && account.requests >= limits_.requests_per_minute &&
         account.tokens >= limits_.tokens_per_minute;
}

// Callers who could ask as much as new ones need not be remembered.
void RateLimiter::forget_idle(Clock::time_point now) {
  if (now - swept_ < kSweepEvery) {
    return;
  }
  swept_ = now;
  for (auto& [caller, account] : accounts_) {
    fill(account, now);
  }
  std::erase_if(accounts_, [this](const auto& entry) { return is_full(entry.second); });
}

RateLimiter::Account& RateLimiter::account(const std::string& caller, Clock::time_point now) {
  const auto [found, is_new] = accounts_.try_emplace(caller);
  Account& account = found->second;
  if (is_new) {
    account.requests = limits_.requests_per_minute;
    account.tokens = limits_.tokens_per_minute;
    account.filled = now;
  }
  fill(account, now);
  return account;
}

void RateLimiter::begin(const std::string& caller, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  forget_idle(now);
  Account& mine = account(caller, now);
  if (limits_.concurrent_requests > 0 && mine.running >= limits_.concurrent_requests) {
    refuse(std::to_string(mine.running) +
               " requests of yours are being answered, the most there may be",
           "concurrent_requests", 1);
  }
  if (limits_.requests_per_minute > 0 && mine.requests < 1) {
    refuse("you have made as many requests as one may in a minute, " +
               std::to_string(limits_.requests_per_minute),
           "requests_per_minute", (1 - mine.requests) / per_second(limits_.requests_per_minute));
  }
  if (limits_.tokens_per_minute > 0 && mine.tokens <= 0) {
    refuse("you have used as many tokens as one may in a minute, " +
               std::to_string(limits_.tokens_per_minute),
           "tokens_per_minute", (1 - mine.tokens) / per_second(limits_.tokens_per_minute));
  }
  mine.requests -= limits_.requests_per_minute > 0 ? 1 : 0;
  ++mine.running;
}

void RateLimiter::end(const std::string& caller, int64_t tokens, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const auto found = accounts_.find(caller);
  if (found == accounts_.end()) {
    return;
  }
  fill(found->second, now);
  --found->second.running;
  found->second.tokens -= limits_.tokens_per_minute > 0 ? static_cast<double>(tokens) : 0;
}

size_t RateLimiter::callers() const {
  const std::lock_guard lock(mutex_);
  return accounts_.size();
}

}  // namespace mlxr
