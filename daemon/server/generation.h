// The answers that one HTTP request waits for (one for each choice): carries events from
// schedulers' threads to the request's coroutine, and cancels what runs when it is dropped.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/scheduler/model_manager.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/http/exchange.h"
#include "daemon/server/services.h"

namespace mlxr {

struct ChoiceEvent {
  int choice = 0;
  GenerateEvent event;
};

class Generation {
 public:
  // The exchange's executor must be a strand.
  Generation(const Services& services, Exchange& exchange, std::shared_ptr<ServedModel> model);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Queues the next choice, in its caller's name and within the limits of the settings. Throws as
  // Scheduler::submit. Not concurrently with anything else here.
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

  const ServerConfig& config_;
  const Caller caller_;
  const std::string request_id_;
  const std::chrono::steady_clock::time_point began_;  // the request
  std::shared_ptr<ServedModel> model_;
  std::shared_ptr<Mailbox> mailbox_;  // shared with callbacks, which may outlive this object
  std::vector<RequestId> ids_;
  int finals_ = 0;
};

// Takes the cancellation of a generation away from the exchange before the generation goes.
class CancelOnDisconnect {
 public:
  CancelOnDisconnect(Exchange& exchange, Generation& generation);
  ~CancelOnDisconnect() { exchange_.on_disconnect(nullptr); }
  CancelOnDisconnect(const CancelOnDisconnect&) = delete;
  CancelOnDisconnect& operator=(const CancelOnDisconnect&) = delete;

 private:
  Exchange& exchange_;
};

// It ended early, and how its client hears of that.
bool failed(const GenerateEvent& event);
ApiError failure_of(const GenerateEvent& event, const Services& services);

}  // namespace mlxr
