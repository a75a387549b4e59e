// What is asked of a Scheduler, and what it tells the one who asked. Tokens, not HTTP.
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
#include "daemon/scheduler/context_shift.h"

namespace mlxr {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  int32_t max_tokens = -1;        // -1: the rest of the context window; with a shift, kMostWindows
  std::vector<std::string> stop;  // stop strings; not part of the answer
  bool ignore_eos = false;        // do not stop at the model's stop tokens
  int n_logprobs = -1;            // -1: none; 0: the chosen token's; n: also the n best
  // The prompt's tokens have logprobs, too, as n_logprobs says: then nothing of what is cached is
  // used, whose logits are not there, and nothing is kept.
  bool prompt_logprobs = false;
  bool show_special = false;                     // control tokens appear in the text
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
  // Where its text lies in the answer's, in bytes, stop strings counted. Of a character that
  // further tokens complete, the first byte; nothing of a control token that is not shown.
  int64_t begin = 0, end = 0;
};

// What a request's owner hears. Any number of text events, then exactly one final event.
struct GenerateEvent {
  std::string text;             // may be empty; never ends inside a character
  std::vector<int32_t> tokens;  // ids that this event accounts for
  std::vector<GeneratedLogprob> logprobs;
  // In the first event, where they were asked for: of each token of the prompt. The first token has
  // none: its logprob is 0 and means nothing.
  std::vector<GeneratedLogprob> prompt_logprobs;
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

}  // namespace mlxr
