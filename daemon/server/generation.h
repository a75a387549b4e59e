// The answers that one HTTP request waits for (one for each choice): carries events from
// schedulers' threads to the request's coroutine, and cancels what runs when it is dropped.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/scheduler/model_manager.h"
#include "daemon/server/http/async.h"

namespace mlxr {

struct ChoiceEvent {
  int choice = 0;
  GenerateEvent event;
};

class Generation {
 public:
  // `executor` is the coroutine's; it must be a strand.
  Generation(asio::any_io_executor executor, std::shared_ptr<ServedModel> model);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Queues the next choice. Throws as Scheduler::submit. Not concurrently with anything else here.
  void submit(GenerateRequest request);
  int choices() const { return static_cast<int>(ids_.size()); }

  // The next event; nothing when `deadline` passes first. Events that pile up while a client reads
  // slowly are merged, so at most one event a choice waits, never longer than its answer.
  Task<std::optional<ChoiceEvent>> next(std::chrono::steady_clock::time_point deadline);
  // Every choice has had its final event, and next() returned it.
  bool finished() const { return finals_ == choices(); }

  // Every choice ends with kCancelled soon. From the executor, or while nothing else runs here.
  void cancel();

  ServedModel& model() { return *model_; }

 private:
  struct Mailbox;

  std::shared_ptr<ServedModel> model_;
  std::shared_ptr<Mailbox> mailbox_;  // shared with callbacks, which may outlive this object
  std::vector<RequestId> ids_;
  int finals_ = 0;
};

}  // namespace mlxr
