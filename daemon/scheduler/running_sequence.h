// One request while it runs: its tokens, its KV, its sampler and the text that is on its way out.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/runtime/constraint/answer_constraint.h"
#include "core/runtime/kv/kv_disk.h"
#include "core/runtime/sampler/sampler.h"
#include "core/runtime/spec/proposal.h"
#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/scheduler/generate_request.h"
#include "daemon/scheduler/speculation.h"
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
  bool prefilling() const { return request_.pooling || pending().size() > 1; }
  // Its step takes all of it (an encoder's).
  bool in_one_piece() const { return model_.spec.encoder; }
  // What a step must give for its next `count` tokens.
  SequenceSlice::Logits wants(int64_t count) const;
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> history() const { return tokens_; }  // all of them
  // The most tokens that may follow before the window is full.
  int64_t tokens_to_come() const {
    return std::clamp<int64_t>(max_new_ - generated_, 0, window_ - tokens());
  }
  int32_t generated() const { return generated_; }
  const GenerateRequest& request() const { return request_; }
  std::span<const ScaledAdapter> adapters() const { return request_.adapters; }
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  void set_deadline(Clock::time_point deadline) { deadline_ = deadline; }
  // The first token of the answer was sampled.
  bool answering() const { return first_token_.has_value(); }
  Clock::time_point arrived() const { return queued_; }
  // It has a place in the batch now. True the first time.
  bool note_place(Clock::time_point now) {
    const bool first = !started_;
    started_ = started_.value_or(now);
    return first;
  }
  // Tokens came now; returns when those before them did.
  Clock::time_point note_tokens(Clock::time_point now) { return std::exchange(last_token_, now); }
  uint64_t trace_number() const { return trace_number_; }
  void set_trace_number(uint64_t number) { trace_number_ = number; }

  KvSequence* kv() { return kv_ ? &*kv_ : nullptr; }
  const KvSequence* kv() const { return kv_ ? &*kv_ : nullptr; }
  // Take what is cached of the pending tokens.
  void start(Pager& pager);
  void adopt_cached();
  // What comes next may be on disk, or is on its way from there: no step computes it yet
  // (kv_persistence.h).
  bool restoring() const { return restoring_; }
  void set_restoring(bool restoring) { restoring_ = restoring; }
  std::optional<KvDisk::Reading>& reading() { return reading_; }
  // Takes the next block of pending tokens, whose keys and values `fill` writes.
  void restore(const std::function<void(BlockId)>& fill);
  // Tokens of its prompt have no logprobs yet that it wants.
  bool scoring() const {
    return request_.prompt_logprobs && !answering() && scored_ < prompt_tokens_;
  }
  // Nothing is shared with it.
  bool is_private() const { return request_.pooling || request_.prompt_logprobs; }
  // The last `rows` tokens that were computed have these logits.
  void score(int32_t rows, const std::function<std::span<const float>(int32_t)>& row);
  // The same tokens under the same salt, with the same adapters.
  bool same_tokens(const RunningSequence& other) const;
  // Shares the KV of a sequence with the same tokens, whose pending ones were just computed.
  void take_twin(const RunningSequence& other);
  // A step computed the last `tokens` that are stored. Returns how many of the prompt that was the
  // first time for: not after it was preempted, or its answer shifted.
  int64_t note_computed(int64_t tokens);
  // Of the prompt, those that never had to be computed.
  int32_t cached_tokens() const;
  // Gives the KV back; what is not cached then is computed again from the tokens when the sequence
  // starts anew. The answer does not change: a row's result does not depend on how its prompt was
  // chunked.
  void preempt();
  // Only a shift gives it room for the next token.
  bool window_is_full() const { return tokens() == window_; }
  // Drops tokens as its request wants them dropped (context_shift.h) and starts anew with the
  // others, as a preempted sequence does: what follows is what a request with these tokens gets,
  // but that its constraint, its stop strings and mirostat go on.
  void shift(Pager& pager);

  // What its speculation remembers; absent until the scheduler speculates with it.
  std::optional<SequenceSpeculation>& speculation() { return speculation_; }
  // Proposes tokens to follow the one that is pending, as far as the constraint allows them: they
  // are computed with it, and judged by accept().
  void propose(std::vector<int32_t> tokens);
  int32_t proposed() const { return static_cast<int32_t>(proposal_.tokens.size()); }
  // The pending token and those proposed.
  std::span<const int32_t> with_proposed() const { return with_proposed_; }
  // How many of the last proposal were right.
  int32_t accepted() const { return accepted_; }

  // What its next token must fit; null: anything goes.
  AnswerConstraint* constraint() { return constraint_ ? &*constraint_ : nullptr; }
  // A draft's choice of the token after `tokens`, by its logits [vocab()].
  int32_t draft(std::span<const float> logits, std::span<const int32_t> tokens);
  size_t vocab() const { return static_cast<size_t>(model_.spec.vocab); }

  // Chooses the next tokens, one and those of the proposal that are right, tells the owner, and
  // returns true when the answer is complete (the owner has heard the final event then). `row(i)`
  // gives the logits after the pending tokens and the first i of the proposal.
  bool accept(const std::function<std::span<const float>(size_t)>& row);
  // The same for a sequence that is pooled: its last `rows` computed tokens have these states.
  bool pool(int32_t rows, const std::function<std::span<const float>(int32_t)>& state);
  void finish(FinishReason reason);
  void fail(const std::string& error, ErrorCode code);
  // Why it ended, once it has.
  std::optional<FinishReason> end() const { return end_; }

 private:
  bool is_stop_token(int32_t token) const;
  std::optional<FinishReason> deliver(const SampledToken& sampled);
  void add_prompt_logprob(SampledToken scored);
  void release_kv();
  void send(std::string text);

  RequestId id_;
  GenerateRequest request_;
  GenerateCallback callback_;
  const Model& model_;
  int32_t prompt_tokens_;
  int32_t window_;
  int32_t max_new_;
  Sampler sampler_;
  std::optional<AnswerConstraint> constraint_;
  StreamDecoder decoder_;
  int64_t decoded_ = 0;  // bytes of the answer's text, stop strings counted
  StopMatcher stops_;
  std::optional<Pooler> pooler_;  // while it has KV
  std::vector<int32_t> tokens_;
  std::string salt_;  // of kv_: the request's, and its adapters
  std::optional<KvSequence> kv_;
  bool restoring_ = false;
  std::optional<KvDisk::Reading> reading_;
  std::optional<SequenceSpeculation> speculation_;
  Proposal proposal_;
  std::vector<int32_t> with_proposed_;
  int32_t accepted_ = 0;
  GenerateEvent event_;  // tokens and logprobs that wait for their text
  int64_t scored_ = 0;   // tokens of the prompt that have their logprobs in event_
  int32_t generated_ = 0;
  int64_t adopted_ = 0;   // of the prompt, since the last start
  int64_t computed_ = 0;  // of the prompt, each token once
  int64_t reached_ = 0;   // the farthest token that was computed
  Clock::time_point queued_ = Clock::now();
  std::optional<Clock::time_point> started_, first_token_, deadline_;
  Clock::time_point last_token_;
  std::optional<FinishReason> end_;
  uint64_t trace_number_ = 0;
};

}  // namespace mlxr
