// One request while it runs: its tokens, its KV, its sampler and the text that is on its way out.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "core/runtime/sampler/sampler.h"
#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/scheduler/scheduler.h"
#include "daemon/scheduler/stop_matcher.h"

namespace mlxr {

class RunningSequence {
 public:
  using Clock = std::chrono::steady_clock;

  RunningSequence(RequestId id, GenerateRequest request, GenerateCallback callback,
                  const Model& model, int32_t context_length);

  RequestId id() const { return id_; }
  // Tokens that are not in the KV cache yet: the prompt at first, then one at a time.
  std::span<const int32_t> pending() const;
  bool prefilling() const { return pending().size() > 1; }
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }

  KvSequence* kv() { return kv_ ? &*kv_ : nullptr; }
  void start(Pager& pager);
  // Gives the KV back; it is computed again from the tokens when the sequence starts anew. The
  // answer does not change: a row's result does not depend on how its prompt was chunked.
  void preempt() { kv_.reset(); }

  // Samples from the logits of the last pending token, tells the owner, and returns true when the
  // answer is complete (the owner has heard the final event then).
  bool accept(std::span<const float> logits);
  void finish(FinishReason reason);
  void fail(const std::string& error, ErrorCode code);

 private:
  bool is_stop_token(int32_t token) const;
  void send(std::string text);

  RequestId id_;
  GenerateRequest request_;
  GenerateCallback callback_;
  const Model& model_;
  int32_t prompt_tokens_;
  int32_t max_new_;
  Sampler sampler_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  std::vector<int32_t> tokens_;
  std::optional<KvSequence> kv_;
  GenerateEvent event_;  // tokens and logprobs that wait for their text
  int32_t generated_ = 0;
  Clock::time_point queued_ = Clock::now();
  std::optional<Clock::time_point> started_, first_token_;
};

}  // namespace mlxr
