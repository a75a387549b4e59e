// The requests that wait for a model to be loaded, and what they hear.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/model_manager.h"

namespace mlxr {

struct LoadWaiter {
  using Clock = ModelManager::Clock;

  ModelManager::WaitId id = 0;
  std::optional<std::chrono::milliseconds> timeout;  // the request's own
  std::optional<Clock::time_point> deadline;         // that of the timeout
  Clock::time_point latest;                          // when load_timeout is over
  ModelManager::Heard heard;
};

// What some of them hear: told once, while nothing is locked.
struct LoadNews {
  std::vector<LoadWaiter> waiters;
  std::exception_ptr failure;
  std::vector<std::shared_ptr<ServedModel>> models;  // one a waiter, where there is no failure
  void tell();
};

// Those of one model. Not thread-safe: they are under their manager's lock.
class LoadWaiters {
 public:
  explicit LoadWaiters(std::string model) : model_(std::move(model)) {}

  bool empty() const { return waiters_.empty(); }
  size_t size() const { return waiters_.size(); }
  // Throws QueueFull where `most` wait already.
  void add(LoadWaiter waiter, int64_t most);

  std::vector<LoadWaiter> take_all();
  std::optional<LoadWaiter> take(ModelManager::WaitId id);
  // Those who have waited for too long by now.
  std::vector<LoadNews> take_late(LoadWaiter::Clock::time_point now);
  // When the next of them will have.
  std::optional<LoadWaiter::Clock::time_point> next_late() const;

 private:
  std::exception_ptr lateness(const LoadWaiter& waiter, LoadWaiter::Clock::time_point now) const;

  std::string model_;
  std::vector<LoadWaiter> waiters_;
};

}  // namespace mlxr
