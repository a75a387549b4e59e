// A constraint on one answer. The reasoning before it is free; a tool call instead of it has a
// constraint of its own, or none.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/runtime/constraint/constraint.h"

namespace mlxr {

// The tokens round a model's reasoning, "<think>" and "</think>".
struct ReasoningTokens {
  int32_t open = -1;
  int32_t close = -1;
};

// Those of the vocabulary, where reasoning has single tokens for its borders.
std::optional<ReasoningTokens> reasoning_tokens(const Tokenizer& tokenizer);

// A token that begins a call, or several.
struct CallMark {
  int32_t token = -1;
  std::shared_ptr<const Constraint> calls;  // on what follows; null: none
};

// What may stand before or instead of an answer, free of its constraint.
struct FreeParts {
  std::optional<ReasoningTokens> reasoning;      // absent: the model does not reason
  std::vector<CallMark> call_marks;              // empty: no tools
  std::shared_ptr<const Constraint> begun_call;  // the prompt ends inside a call: on its rest
  std::vector<int32_t> stop_tokens;              // the model's

  bool constrain_calls() const;
};

class AnswerConstraint {
 public:
  // `constraint`: null where the answer may be any text. `prompt` tells whether reasoning has
  // begun, or is over because thinking is off.
  AnswerConstraint(const Constraint* constraint, int32_t vocab_size, FreeParts free,
                   std::span<const int32_t> prompt);

  // The tokens that may come next, [(vocab + 31) / 32] words, valid until the next call; empty when
  // every token may. Throws as ConstraintMatcher::mask.
  std::span<const uint32_t> mask();
  // mask() costs nothing: it was computed since the last token.
  bool has_mask() const { return mask_is_current_; }
  // What stands for the token that was chosen: reasoning that would end the answer, which is still
  // owed, closes instead.
  int32_t instead_of(int32_t token) const;
  // Takes the token that was chosen. Throws as ConstraintMatcher::accept.
  void accept(int32_t token);
  // How many of the tokens may follow one another from here, at most: those behind the first that
  // may not need not be computed. The state stays.
  size_t count_allowed(std::span<const int32_t> tokens);
  // Nothing may follow.
  bool complete() const { return phase_ == Phase::kAnswer && matcher_->is_stopped(); }

 private:
  enum class Phase {
    kStart,      // reasoning, a call or the answer comes next
    kReasoning,  // free, until it closes
    kAnswer,     // constrained
    kCall,       // constrained, up to its end
    kFree,       // any text; a call may begin
  };
  void look_for_reasoning(std::span<const int32_t> prompt);
  void allow(int32_t token);
  const CallMark* mark_of(int32_t token) const;
  void begin_call(const CallMark& mark);
  bool is_constrained() const { return phase_ == Phase::kAnswer || phase_ == Phase::kCall; }

  std::optional<ConstraintMatcher> matcher_;  // of the answer, then of the call instead of it
  std::vector<uint32_t> mask_;
  bool mask_is_current_ = false;
  FreeParts free_;
  Phase phase_ = Phase::kStart;
};

}  // namespace mlxr
