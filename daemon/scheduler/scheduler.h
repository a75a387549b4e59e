// Continuous batching for one loaded model: a thread that owns the engine and runs one ragged step
// after another. Each step takes every running sequence's next token, then fills max_batch_tokens
// with chunks of waiting prompts. Knows sequences, not HTTP.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/engine.h"
#include "core/runtime/sampler/sampler.h"

namespace mlxr {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  int32_t max_tokens = -1;        // -1: the rest of the context window
  std::vector<std::string> stop;  // stop strings; not part of the answer
  bool ignore_eos = false;        // do not stop at the model's stop tokens
  int n_logprobs = -1;            // -1: none; 0: the chosen token's; n: also the n best
  bool show_special = false;      // control tokens appear in the text
};

enum class FinishReason { kStop, kLength, kCancelled, kError };

struct GenerateUsage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;     // prompt tokens whose KV was reused
  int32_t generated_tokens = 0;  // the stop token included
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};

struct GeneratedLogprob {
  std::string bytes;  // of the token
  SampledToken sampled;
};

// What a request's owner hears. Any number of text events, then exactly one final event.
struct GenerateEvent {
  std::string text;             // may be empty; never ends inside a character
  std::vector<int32_t> tokens;  // ids that this event accounts for
  std::vector<GeneratedLogprob> logprobs;
  bool final = false;
  FinishReason reason = FinishReason::kStop;  // in the final event
  std::string error;                          // of kError: one sentence
  ErrorCode error_code = ErrorCode::kInternal;
  GenerateUsage usage;  // in the final event
};

// Called on the scheduler's thread; must not block and must not throw.
using GenerateCallback = std::function<void(GenerateEvent&&)>;
using RequestId = uint64_t;

struct SchedulerOptions {
  int32_t max_batch_tokens = 512;  // tokens of one step, decode and prompt chunks together
  int32_t max_sequences = 64;      // running at once; more wait
  int32_t max_queue = 1024;        // waiting at once; more are refused with kUnavailable
};

struct SchedulerStats {
  int32_t running = 0, waiting = 0;
  int32_t kv_blocks_used = 0, kv_blocks_total = 0;
  uint64_t steps = 0, prompt_tokens = 0, generated_tokens = 0, requests = 0;
};

class StepEngine;  // what the scheduler needs of an Engine (step_engine.h)

class Scheduler {
 public:
  Scheduler(std::unique_ptr<Engine> engine, const SchedulerOptions& options);
  Scheduler(std::unique_ptr<StepEngine> engine, const SchedulerOptions& options);
  // Cancels what runs (each owner hears kCancelled) and joins.
  ~Scheduler();

  // Checks the request and queues it. Thread-safe. Throws Error{kInvalidArgument},
  // Error{kContextOverflow} with both numbers when the prompt leaves no room for an answer,
  // Error{kUnavailable} when the queue is full or draining.
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
