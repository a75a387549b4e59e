// Continuous batching for one loaded model: a thread that owns the engine and runs one ragged step
// after another. Each step takes every running sequence's next token, then fills max_batch_tokens
// with chunks of prompts, as far as target_latency_ms allows. Knows sequences, not HTTP.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "core/runtime/embedding/pooling.h"
#include "core/runtime/engine.h"
#include "core/runtime/sampler/sampler.h"
#include "core/runtime/spec/depth_controller.h"
#include "daemon/scheduler/context_shift.h"
#include "daemon/scheduler/scheduler_stats.h"
#include "daemon/telemetry/trace.h"

namespace mlxr {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  int32_t max_tokens = -1;        // -1: the rest of the context window; with a shift, kMostWindows
  std::vector<std::string> stop;  // stop strings; not part of the answer
  bool ignore_eos = false;        // do not stop at the model's stop tokens
  int n_logprobs = -1;            // -1: none; 0: the chosen token's; n: also the n best
  bool show_special = false;      // control tokens appear in the text
  std::shared_ptr<const Constraint> constraint;  // what the answer must fit; null: anything
  FreeParts free_parts;                          // of a constrained chat's answer
  // How the answer goes on where the context window is full; nothing: it ends with kLength.
  std::optional<ContextShift> shift;
  std::string client;    // whose request it is: clients are served evenly
  int32_t priority = 0;  // higher ones go first, whoever's they are
  // From submission to the last token; beyond it the request fails with kTimeout.
  std::optional<std::chrono::milliseconds> timeout;
  std::chrono::milliseconds waited{0};  // of the timeout, before submission: for its model
  std::string cache_salt;               // only requests with the same salt share cached prefixes
  std::vector<ScaledAdapter> adapters;  // of the model: only the same ones share prefixes
  std::string name;                     // in traces
  // Instead of an answer, the prompt's states are pooled into one vector, which the final event
  // has; what is said above of answers does not count then, and nothing of the prompt is shared or
  // kept. Mean, cls or last.
  std::optional<Pooling> pooling;
  std::vector<int32_t> token_types;  // of the prompt of an encoder; empty: all 0
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
  GenerateUsage usage;        // in the final event
  std::vector<float> vector;  // of a request with pooling, as it was pooled, in the final event
};

// Called on the scheduler's thread; must not block and must not throw.
using GenerateCallback = std::function<void(GenerateEvent&&)>;
using RequestId = uint64_t;

// Where tokens come from that are computed before it is known whether they are right. An answer is
// the same, token for token, whatever is chosen here.
enum class SpeculationMode {
  kOff,
  kNgram,  // from what followed the last few tokens earlier in the text
  kDraft,  // from a smaller model
};

// By all answers together in a step. With some dozens of tokens a step is bound by arithmetic on
// any machine, and one that may be wrong costs what a right one does; and each takes a row of
// logits.
inline constexpr int64_t kMostProposed = 64;

struct SpeculationOptions {
  SpeculationMode mode = SpeculationMode::kOff;
  DepthOptions depth;
};

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
