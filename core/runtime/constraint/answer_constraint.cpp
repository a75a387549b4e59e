#include "core/runtime/constraint/answer_constraint.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace mlxr {
namespace {

// Between closed reasoning and the end of a prompt: a line break or two.
constexpr size_t kTokensAfterClosed = 4;

}  // namespace

std::optional<ReasoningTokens> reasoning_tokens(const Tokenizer& tokenizer) {
  using Names = std::pair<std::string_view, std::string_view>;
  static constexpr std::array<Names, 3> kNames{
      {{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}, {"<seed:think>", "</seed:think>"}}};
  for (const auto& [open, close] : kNames) {
    const auto open_id = tokenizer.token_id(open), close_id = tokenizer.token_id(close);
    if (open_id && close_id) return ReasoningTokens{*open_id, *close_id};
  }
  return std::nullopt;
}

bool FreeParts::constrain_calls() const {
  return begun_call != nullptr ||
         std::any_of(call_marks.begin(), call_marks.end(),
                     [](const CallMark& mark) { return mark.calls != nullptr; });
}

AnswerConstraint::AnswerConstraint(const Constraint* constraint, int32_t vocab_size, FreeParts free,
                                   std::span<const int32_t> prompt)
    : mask_(mask_words(static_cast<size_t>(vocab_size))), free_(std::move(free)) {
  if (constraint != nullptr) matcher_ = constraint->matcher();
  if (free_.begun_call) {
    matcher_ = free_.begun_call->matcher();
    phase_ = Phase::kCall;
  } else if (free_.reasoning) {
    look_for_reasoning(prompt);
  }
}

void AnswerConstraint::look_for_reasoning(std::span<const int32_t> prompt) {
  const ReasoningTokens tokens = *free_.reasoning;
  const auto last = std::find_if(prompt.rbegin(), prompt.rend(), [&](int32_t id) {
    return id == tokens.open || id == tokens.close;
  });
  if (last == prompt.rend()) return;
  if (*last == tokens.open) phase_ = Phase::kReasoning;
  const auto after = static_cast<size_t>(last - prompt.rbegin());
  if (*last == tokens.close && after <= kTokensAfterClosed) free_.reasoning.reset();
}

void AnswerConstraint::allow(int32_t token) {
  const auto id = static_cast<size_t>(token);
  if (token >= 0 && id / 32 < mask_.size()) mask_[id / 32] |= 1u << (id % 32);
}

std::span<const uint32_t> AnswerConstraint::mask() {
  const bool is_free = phase_ == Phase::kReasoning || phase_ == Phase::kFree ||
                       (phase_ == Phase::kStart && !matcher_);
  if (is_free) return {};
  if (!mask_is_current_) {
    matcher_->mask(mask_);
    if (phase_ == Phase::kStart) {
      if (free_.reasoning) allow(free_.reasoning->open);
      for (const CallMark& mark : free_.call_marks) allow(mark.token);
    }
    mask_is_current_ = true;
  }
  return mask_;
}

int32_t AnswerConstraint::instead_of(int32_t token) const {
  const bool owed = phase_ == Phase::kReasoning && matcher_;
  const auto& stops = free_.stop_tokens;
  return owed && std::find(stops.begin(), stops.end(), token) != stops.end()
             ? free_.reasoning->close
             : token;
}

const CallMark* AnswerConstraint::mark_of(int32_t token) const {
  const auto found = std::find_if(free_.call_marks.begin(), free_.call_marks.end(),
                                  [&](const CallMark& mark) { return mark.token == token; });
  return found == free_.call_marks.end() ? nullptr : &*found;
}

void AnswerConstraint::begin_call(const CallMark& mark) {
  if (mark.calls) matcher_ = mark.calls->matcher();
  phase_ = mark.calls ? Phase::kCall : Phase::kFree;
}

void AnswerConstraint::accept(int32_t token) {
  mask_is_current_ = false;
  switch (phase_) {
    case Phase::kFree:
      if (const CallMark* mark = mark_of(token)) begin_call(*mark);
      return;
    case Phase::kReasoning:
      if (token != free_.reasoning->close) return;
      free_.reasoning.reset();
      phase_ = Phase::kStart;
      return;
    case Phase::kStart:
      if (free_.reasoning && token == free_.reasoning->open) {
        phase_ = Phase::kReasoning;
        return;
      }
      if (const CallMark* mark = mark_of(token)) {
        begin_call(*mark);
        return;
      }
      phase_ = matcher_ ? Phase::kAnswer : Phase::kFree;
      if (matcher_) matcher_->accept(token);
      return;
    case Phase::kAnswer:
      matcher_->accept(token);
      return;
    case Phase::kCall:
      matcher_->accept(token);
      if (matcher_->is_stopped()) phase_ = Phase::kFree;  // closing marks, or another call
  }
}

size_t AnswerConstraint::count_allowed(std::span<const int32_t> tokens) {
  return is_constrained() ? matcher_->count_valid(tokens) : tokens.size();
}

}  // namespace mlxr
