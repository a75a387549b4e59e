#include "daemon/scheduler/running_sequence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/runtime/spec/draft_token.h"
#include "core/runtime/spec/verify.h"

namespace mlxr {
namespace {

double seconds(RunningSequence::Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

bool is_inside_character(StreamDecoder decoder) { return !decoder.flush().empty(); }

int32_t longest_answer(const GenerateRequest& request, int32_t window) {
  if (request.pooling) return 0;
  const int32_t room = window - static_cast<int32_t>(request.prompt.size());
  if (!request.shift) return request.max_tokens < 0 ? room : std::min(room, request.max_tokens);
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  return request.max_tokens < 0
             ? static_cast<int32_t>(std::min(int64_t{window} * kMostWindows, kMax))
             : request.max_tokens;
}

}  // namespace

RunningSequence::RunningSequence(RequestId id, GenerateRequest request, GenerateCallback callback,
                                 const Model& model, int32_t context_length)
    : id_(id),
      request_(std::move(request)),
      callback_(std::move(callback)),
      model_(model),
      prompt_tokens_(static_cast<int32_t>(request_.prompt.size())),
      window_(context_length),
      max_new_(longest_answer(request_, context_length)),
      sampler_(request_.sampling, model.spec.vocab,
               [&model](int32_t token) { return model.tokenizer->token_bytes(token); }),
      decoder_(model.tokenizer, !request_.show_special),
      stops_(request_.stop),
      tokens_(request_.prompt),
      salt_(kv_salt(request_.cache_salt, request_.adapters)),
      queued_(Clock::now() - request_.waited) {
  if (request_.constraint || request_.free_parts.constrain_calls()) {
    constraint_.emplace(request_.constraint.get(), model.spec.vocab, request_.free_parts,
                        request_.prompt);
  }
  if (request_.prompt_logprobs) add_prompt_logprob({.token = request_.prompt.front()});
}

std::span<const int32_t> RunningSequence::pending() const {
  const auto stored = static_cast<size_t>(kv_ ? kv_->length() : 0);
  return std::span(tokens_).subspan(stored);
}

void RunningSequence::start(Pager& pager) {
  if (is_private()) {
    kv_.emplace(pager);  // every token's state is needed, and such texts rarely come again
  } else {
    kv_.emplace(pager, salt_);
  }
  if (request_.pooling) pooler_.emplace(*request_.pooling);
  adopt_cached();
}

void RunningSequence::adopt_cached() {
  const int64_t gained = kv_->adopt(pending());
  if (!answering()) adopted_ += gained;
}

void RunningSequence::restore(const std::function<void(BlockId)>& fill) {
  const int64_t before = kv_->length();
  kv_->restore(pending(), fill);
  if (!answering()) adopted_ += kv_->length() - before;
}

bool RunningSequence::same_tokens(const RunningSequence& other) const {
  return tokens_.size() == other.tokens_.size() && salt_ == other.salt_ && tokens_ == other.tokens_;
}

void RunningSequence::take_twin(const RunningSequence& other) {
  if (!answering()) adopted_ += static_cast<int64_t>(pending().size());
  kv_ = other.kv_->fork();
}

int64_t RunningSequence::note_computed(int64_t tokens) {
  if (answering()) return 0;
  const int64_t end = kv_->length();
  const int64_t first_time = std::clamp<int64_t>(end - reached_, 0, tokens);
  reached_ = std::max(reached_, end);
  computed_ += first_time;
  return first_time;
}

void RunningSequence::release_kv() {
  restoring_ = false;
  reading_.reset();
  kv_.reset();
  pooler_.reset();
  if (speculation_) speculation_->draft_kv.reset();
}

void RunningSequence::preempt() {
  release_kv();
  if (!answering()) adopted_ = 0;
}

void RunningSequence::shift(Pager& pager) {
  const int32_t keep = request_.shift->keep;
  const int32_t kept = keep < 0 ? prompt_tokens_ : std::min(keep, prompt_tokens_);
  const DroppedTokens dropped = dropped_by_shift(tokens_.size(), static_cast<size_t>(kept));
  release_kv();
  const auto first = tokens_.begin() + static_cast<std::ptrdiff_t>(dropped.begin);
  tokens_.erase(first, first + static_cast<std::ptrdiff_t>(dropped.count));
  if (speculation_) speculation_->text_was_cut();
  sampler_.go_on_with_next_seed();
  start(pager);
}

// Blocks that a preempted prompt finds again are its own work.
int32_t RunningSequence::cached_tokens() const {
  return static_cast<int32_t>(
      std::clamp<int64_t>(std::min(adopted_, prompt_tokens_ - computed_), 0, prompt_tokens_));
}

bool RunningSequence::is_stop_token(int32_t token) const {
  if (request_.ignore_eos) return false;
  const auto& stops = model_.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

void RunningSequence::propose(std::vector<int32_t> tokens) {
  if (constraint_) tokens.resize(constraint_->count_allowed(tokens));
  with_proposed_.assign(1, tokens_.back());
  with_proposed_.insert(with_proposed_.end(), tokens.begin(), tokens.end());
  proposal_.tokens = std::move(tokens);
}

int32_t RunningSequence::draft(std::span<const float> logits, std::span<const int32_t> tokens) {
  return draft_token(sampler_, logits, tokens);
}

bool RunningSequence::accept(const std::function<std::span<const float>(size_t)>& row) {
  if (!first_token_) first_token_ = Clock::now();
  if (max_new_ <= 0) {
    finish(FinishReason::kLength);
    return true;
  }
  std::optional<FinishReason> end;
  const Verified verified = verify(sampler_, tokens_, std::exchange(proposal_, {}), row,
                                   {.n_top = request_.n_logprobs,
                                    .constraint = constraint_ ? &*constraint_ : nullptr,
                                    .ends = [&](const SampledToken& sampled) {
                                      end = deliver(sampled);
                                      return end.has_value();
                                    }});
  accepted_ = verified.accepted;
  // Without the last one, which nobody has computed, or nobody needs.
  const size_t count = verified.tokens.size();
  kv_->settle(std::span(tokens_).last(count).first(count - 1));
  if (end) finish(*end);
  return end.has_value();
}

SequenceSlice::Logits RunningSequence::wants(int64_t count) const {
  using Logits = SequenceSlice::Logits;
  const int64_t begin = kv_->length(), end = begin + count;
  const int64_t last_scored = std::min<int64_t>(end, prompt_tokens_ - 1);
  if (scoring() && std::max(scored_, begin + 1) <= last_scored) return Logits::kAll;
  if (!pooler_) return end == tokens() ? Logits::kLast : Logits::kNone;
  switch (pooler_->wants(begin, end, tokens())) {
    case Pooler::Wants::kNothing:
      return Logits::kNone;
    case Pooler::Wants::kLast:
      return Logits::kLastState;
    case Pooler::Wants::kAll:
      return Logits::kAllStates;
  }
  return Logits::kNone;
}

// A preempted prompt is computed again, not scored again.
void RunningSequence::score(int32_t rows,
                            const std::function<std::span<const float>(int32_t)>& row) {
  const int64_t first = kv_->length() - rows;
  for (int64_t next = std::max(scored_, first + 1); next <= kv_->length(); ++next) {
    if (next >= prompt_tokens_) break;
    const int32_t token = tokens_[static_cast<size_t>(next)];
    SampledToken scored =
        with_logprobs(token, row(static_cast<int32_t>(next - 1 - first)), request_.n_logprobs);
    if (std::isnan(scored.logprob)) {
      throw Error(ErrorCode::kInternal,
                  "the model computed logits that are not numbers; its file may be damaged");
    }
    add_prompt_logprob(std::move(scored));
  }
}

void RunningSequence::add_prompt_logprob(SampledToken scored) {
  event_.prompt_logprobs.push_back(
      {model_.tokenizer->token_bytes(scored.token), std::move(scored)});
  scored_ = static_cast<int64_t>(event_.prompt_logprobs.size());
}

bool RunningSequence::pool(int32_t rows,
                           const std::function<std::span<const float>(int32_t)>& state) {
  const int64_t end = kv_->length();
  for (int32_t i = 0; i < rows; ++i) pooler_->add(end - rows + i, state(i));
  if (end < tokens()) return false;
  first_token_ = Clock::now();
  event_.vector = pooler_->result();
  finish(FinishReason::kStop);
  return true;
}

// Tells the owner of a token. Why nothing follows it, if that is so.
std::optional<FinishReason> RunningSequence::deliver(const SampledToken& sampled) {
  ++generated_;
  if (is_stop_token(sampled.token)) return FinishReason::kStop;
  event_.tokens.push_back(sampled.token);
  const std::string decoded = decoder_.push(sampled.token);
  const int64_t begin = std::exchange(decoded_, decoded_ + static_cast<int64_t>(decoded.size()));
  if (request_.n_logprobs >= 0) {
    event_.logprobs.push_back({model_.tokenizer->token_bytes(sampled.token), sampled, begin,
                               decoded_ + (is_inside_character(decoder_) ? 1 : 0)});
  }
  std::string text = stops_.push(decoded);
  if (!text.empty()) send(std::move(text));
  const bool complete = constraint_ && constraint_->complete();
  if (stops_.matched() || complete) return FinishReason::kStop;
  if (generated_ >= max_new_) return FinishReason::kLength;
  return std::nullopt;
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
                 .cached_tokens = cached_tokens(),
                 .generated_tokens = generated_,
                 .queue_seconds = seconds(started - queued_),
                 .prefill_seconds = seconds(first - started),
                 .decode_seconds = seconds(now - first)};
  end_ = reason;
  release_kv();  // before the owner hears: it may submit the next request at once
  callback_(std::move(event));
}

void RunningSequence::fail(const std::string& error, ErrorCode code) {
  GenerateEvent event;
  event.final = true;
  event.reason = FinishReason::kError;
  event.error = error;
  event.error_code = code;
  end_ = FinishReason::kError;
  release_kv();
  callback_(std::move(event));
}

}  // namespace mlxr
