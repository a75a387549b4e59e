// Continuous batching for one loaded model: a thread that owns the engine and runs one ragged step
// after another. Each step takes every running sequence's next token, then fills max_batch_tokens
// with chunks of prompts, as far as target_latency_ms allows. Knows sequences, not HTTP.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/base/error.h"
#include "core/runtime/engine.h"
#include "daemon/scheduler/generate_request.h"
#include "daemon/scheduler/scheduler_stats.h"
#include "daemon/scheduler/speculation_options.h"
#include "daemon/telemetry/trace.h"

namespace mlxr {

struct SchedulerOptions {
  int32_t max_batch_tokens = 512;  // tokens of one step, decode and prompt chunks together
  int32_t max_sequences = 64;      // running at once; more wait
  int32_t max_queue = 1024;        // waiting at once; more are refused with QueueFull
  int32_t target_latency_ms = 80;  // of a step while answers run: prompts get what is left of it
  SpeculationOptions speculation;
  std::shared_ptr<Trace> trace;  // null: nothing is traced
  std::string name;              // the model's, in traces
};

// Too many requests wait. A client may come back when some of them have been answered.
class QueueFull : public Error {
 public:
  QueueFull(const std::string& message, std::chrono::seconds retry_after)
      : Error(ErrorCode::kUnavailable, message), retry_after_(retry_after) {}
  // An estimate from the rate at which requests are answered, at least a second.
  std::chrono::seconds retry_after() const { return retry_after_; }

 private:
  std::chrono::seconds retry_after_;
};

class KvDisk;      // where KV blocks outlive the scheduler (core/runtime/kv/kv_disk.h)
class StepEngine;  // what the scheduler needs of an Engine (step_engine.h)

class Scheduler {
 public:
  // `draft` runs the model that proposes in mode kDraft (drafter.h). `disk` keeps blocks of
  // `engine`, not of the draft; null: nothing does.
  Scheduler(std::unique_ptr<Engine> engine, const SchedulerOptions& options,
            std::unique_ptr<Engine> draft = nullptr, std::unique_ptr<KvDisk> disk = nullptr);
  Scheduler(std::unique_ptr<StepEngine> engine, const SchedulerOptions& options,
            std::unique_ptr<StepEngine> draft = nullptr, std::unique_ptr<KvDisk> disk = nullptr);
  // Cancels what runs (each owner hears kCancelled) and joins.
  ~Scheduler();

  // Checks the request and queues it. Thread-safe. Throws Error{kInvalidArgument},
  // Error{kContextOverflow} with both numbers when the prompt leaves no room for an answer, or, to
  // be pooled, does not fit, QueueFull, Error{kUnavailable} when draining.
  RequestId submit(GenerateRequest request, GenerateCallback callback);
  // The request's owner hears kCancelled within one step; unknown ids are ignored. Thread-safe.
  void cancel(RequestId id);
  // Refuses new requests, waits for the running ones up to `timeout`, then cancels the rest.
  void drain(std::chrono::milliseconds timeout);

  const Model& model() const;
  int32_t context_length() const;
  int64_t kv_bytes() const;
  SchedulerStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
