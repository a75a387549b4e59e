#include "daemon/scheduler/running_sequence.h"

#include <algorithm>

namespace mlxr {
namespace {

double seconds(RunningSequence::Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

int32_t room_for(const GenerateRequest& request, int32_t context_length) {
  const int32_t room = context_length - static_cast<int32_t>(request.prompt.size());
  return request.max_tokens < 0 ? room : std::min(room, request.max_tokens);
}

}  // namespace

RunningSequence::RunningSequence(RequestId id, GenerateRequest request, GenerateCallback callback,
                                 const Model& model, int32_t context_length)
    : id_(id),
      request_(std::move(request)),
      callback_(std::move(callback)),
      model_(model),
      prompt_tokens_(static_cast<int32_t>(request_.prompt.size())),
      max_new_(room_for(request_, context_length)),
      sampler_(request_.sampling, model.spec.vocab),
      decoder_(model.tokenizer, !request_.show_special),
      stops_(request_.stop),
      tokens_(request_.prompt) {}

std::span<const int32_t> RunningSequence::pending() const {
  const auto stored = static_cast<size_t>(kv_ ? kv_->length() : 0);
  return std::span(tokens_).subspan(stored);
}

void RunningSequence::start(Pager& pager) {
  kv_.emplace(pager);
  if (!started_) started_ = Clock::now();
}

bool RunningSequence::is_stop_token(int32_t token) const {
  if (request_.ignore_eos) return false;
  const auto& stops = model_.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

bool RunningSequence::accept(std::span<const float> logits) {
  if (!first_token_) first_token_ = Clock::now();
  if (max_new_ <= 0) {
    finish(FinishReason::kLength);
    return true;
  }
  SampledToken sampled =
      sampler_.sample(logits, tokens_, static_cast<int64_t>(tokens_.size()), request_.n_logprobs);
  const int32_t token = sampled.token;
  tokens_.push_back(token);
  ++generated_;
  if (is_stop_token(token)) {
    finish(FinishReason::kStop);
    return true;
  }
  event_.tokens.push_back(token);
  if (request_.n_logprobs >= 0) {
    event_.logprobs.push_back({model_.tokenizer->token_bytes(token), std::move(sampled)});
  }
  std::string text = stops_.push(decoder_.push(token));
  if (stops_.matched()) {
    if (!text.empty()) send(std::move(text));
    finish(FinishReason::kStop);
    return true;
  }
  if (generated_ >= max_new_) {
    if (!text.empty()) send(std::move(text));
    finish(FinishReason::kLength);
    return true;
  }
  if (!text.empty()) send(std::move(text));
  return false;
}

void RunningSequence::send(std::string text) {
  GenerateEvent event = std::exchange(event_, {});
  event.text = std::move(text);
  callback_(std::move(event));
}

void RunningSequence::finish(FinishReason reason) {
  GenerateEvent event = std::exchange(event_, {});
  if (!stops_.matched() && reason != FinishReason::kCancelled) {
    event.text = stops_.push(decoder_.flush());
    if (!stops_.matched()) event.text += stops_.flush();
  }
  event.final = true;
  event.reason = reason;
  const auto now = Clock::now();
  const auto started = started_.value_or(now), first = first_token_.value_or(now);
  event.usage = {.prompt_tokens = prompt_tokens_,
                 .cached_tokens = 0,
                 .generated_tokens = generated_,
                 .queue_seconds = seconds(started - queued_),
                 .prefill_seconds = seconds(first - started),
                 .decode_seconds = seconds(now - first)};
  kv_.reset();  // before the owner hears: it may submit the next request at once
  callback_(std::move(event));
}

void RunningSequence::fail(const std::string& error, ErrorCode code) {
  GenerateEvent event;
  event.final = true;
  event.reason = FinishReason::kError;
  event.error = error;
  event.error_code = code;
  kv_.reset();
  callback_(std::move(event));
}

}  // namespace mlxr
