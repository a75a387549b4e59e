#include "daemon/scheduler/mask_ahead.h"

#include <exception>
#include <utility>

namespace mlxr {

MaskAhead::~MaskAhead() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MaskAhead::begin(std::vector<AnswerConstraint*> constraints) {
  std::erase(constraints, nullptr);
  if (constraints.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    work_ = std::move(constraints);
    busy_ = true;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void MaskAhead::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
}

void MaskAhead::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || busy_; });
    if (!busy_) return;
    const std::vector<AnswerConstraint*> work = std::exchange(work_, {});
    lock.unlock();
    for (AnswerConstraint* constraint : work) {
      try {
        constraint->mask();
      } catch (const std::exception&) {
        // It throws again when its answer asks, which is told then.
      }
    }
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace mlxr
