#include "daemon/scheduler/load_waiters.h"

#include <algorithm>
#include <utility>

namespace mlxr {
namespace {

using TimePoint = LoadWaiter::Clock::time_point;

TimePoint end_of(const LoadWaiter& waiter) {
  return std::min(waiter.latest, waiter.deadline.value_or(waiter.latest));
}

}  // namespace

void LoadNews::tell() {
  for (size_t i = 0; i < waiters.size(); ++i) {
    waiters[i].heard(failure ? nullptr : std::move(models[i]), failure);
  }
}

void LoadWaiters::add(LoadWaiter waiter, int64_t most) {
  if (static_cast<int64_t>(waiters_.size()) >= most) {
    throw QueueFull("the queue is full (" + std::to_string(waiters_.size()) +
                        " requests wait for the model \"" + model_ +
                        "\" to be loaded); try again in 2 s",
                    std::chrono::seconds(2));
  }
  waiters_.push_back(std::move(waiter));
}

std::vector<LoadWaiter> LoadWaiters::take_all() { return std::exchange(waiters_, {}); }

std::optional<LoadWaiter> LoadWaiters::take(ModelManager::WaitId id) {
  const auto found = std::ranges::find(waiters_, id, &LoadWaiter::id);
  if (found == waiters_.end()) return std::nullopt;
  LoadWaiter waiter = std::move(*found);
  waiters_.erase(found);
  return waiter;
}

std::exception_ptr LoadWaiters::lateness(const LoadWaiter& waiter, TimePoint now) const {
  if (waiter.deadline && *waiter.deadline <= now) {
    return std::make_exception_ptr(
        Error(ErrorCode::kTimeout, "the request took longer than its timeout of " +
                                       std::to_string(waiter.timeout->count()) +
                                       " ms while the model \"" + model_ +
                                       "\" was being loaded; allow more time, or ask again"));
  }
  return std::make_exception_ptr(
      StillLoading(ErrorCode::kUnavailable,
                   "the model \"" + model_ + "\" is still being loaded; try again in a while"));
}

std::vector<LoadNews> LoadWaiters::take_late(TimePoint now) {
  std::vector<LoadNews> news;
  const auto is_late = [&](const LoadWaiter& waiter) { return end_of(waiter) <= now; };
  for (LoadWaiter& waiter : waiters_) {
    if (is_late(waiter)) news.push_back({{waiter}, lateness(waiter, now), {}});
  }
  std::erase_if(waiters_, is_late);
  return news;
}

std::optional<TimePoint> LoadWaiters::next_late() const {
  std::optional<TimePoint> next;
  for (const LoadWaiter& waiter : waiters_) {
    next = std::min(next.value_or(end_of(waiter)), end_of(waiter));
  }
  return next;
}

}  // namespace mlxr
