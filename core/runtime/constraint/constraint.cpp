#include "core/runtime/constraint/constraint.h"

#include <algorithm>
#include <utility>

#include "core/runtime/text-ffi/text_ffi.h"

namespace mlxr {
namespace {

using text_ffi::check;
using text_ffi::span_of;

// Agents send the same few schemas again and again; a compiled one is tens of kilobytes.
constexpr size_t kRemembered = 32;

mlxr_grammar_kind kind_of(ConstraintSpec::Kind kind) {
  switch (kind) {
    case ConstraintSpec::Kind::kJsonSchema:
      return MLXR_GRAMMAR_JSON_SCHEMA;
    case ConstraintSpec::Kind::kRegex:
      return MLXR_GRAMMAR_REGEX;
    case ConstraintSpec::Kind::kLark:
      return MLXR_GRAMMAR_LARK;
    case ConstraintSpec::Kind::kGbnf:
      break;
  }
  return MLXR_GRAMMAR_GBNF;
}

}  // namespace

ConstraintMatcher::Handle ConstraintMatcher::clone(const mlxr_grammar* grammar) {
  mlxr_grammar* raw = nullptr;
  mlxr_text_buffer error{};
  check(mlxr_grammar_clone(grammar, &raw, &error), error);
  return Handle(raw);
}

ConstraintMatcher::ConstraintMatcher(const ConstraintMatcher& other)
    : handle_(clone(other.handle_.get())) {}

ConstraintMatcher& ConstraintMatcher::operator=(const ConstraintMatcher& other) {
  if (this != &other) handle_ = clone(other.handle_.get());
  return *this;
}

void ConstraintMatcher::mask(std::span<uint32_t> words) {
  mlxr_text_buffer error{};
  check(mlxr_grammar_mask(handle_.get(), words.data(), words.size(), &error), error);
}

void ConstraintMatcher::accept(int32_t token) {
  mlxr_text_buffer error{};
  check(mlxr_grammar_accept(handle_.get(), token, &error), error);
}

size_t ConstraintMatcher::count_valid(std::span<const int32_t> tokens) {
  size_t valid = 0;
  mlxr_text_buffer error{};
  check(mlxr_grammar_count_valid(handle_.get(), tokens.data(), tokens.size(), &valid, &error),
        error);
  return valid;
}

bool ConstraintMatcher::is_stopped() const { return mlxr_grammar_is_stopped(handle_.get()) != 0; }

ConstraintCompiler::ConstraintCompiler(std::shared_ptr<const Tokenizer> tokenizer,
                                       std::vector<int32_t> stop_tokens)
    : tokenizer_(std::move(tokenizer)), stop_tokens_(std::move(stop_tokens)) {}

ConstraintCompiler::~ConstraintCompiler() = default;

const mlxr_grammar_vocab* ConstraintCompiler::vocab() {
  std::call_once(built_, [this] {
    mlxr_grammar_vocab* raw = nullptr;
    mlxr_text_buffer error{};
    check(mlxr_grammar_vocab_new(tokenizer_->handle(), stop_tokens_.data(), stop_tokens_.size(),
                                 &raw, &error),
          error);
    vocab_.reset(raw);
  });
  return vocab_.get();
}

std::shared_ptr<const Constraint> ConstraintCompiler::find(const ConstraintSpec& spec) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(latest_.begin(), latest_.end(),
                                  [&](const Entry& entry) { return entry.spec == spec; });
  if (found == latest_.end()) return nullptr;
  latest_.splice(latest_.begin(), latest_, found);
  return latest_.front().constraint;
}

std::shared_ptr<const Constraint> ConstraintCompiler::compile(const ConstraintSpec& spec) {
  if (auto known = find(spec)) return known;
  mlxr_grammar* raw = nullptr;
  mlxr_text_buffer error{};
  check(
      mlxr_grammar_new(vocab(), kind_of(spec.kind), span_of(spec.text), spec.lenient, &raw, &error),
      error);
  const auto compiled =
      std::make_shared<const Constraint>(ConstraintMatcher(ConstraintMatcher::Handle(raw)));
  const std::lock_guard lock(mutex_);
  latest_.push_front({spec, compiled});
  if (latest_.size() > kRemembered) latest_.pop_back();
  return compiled;
}

}  // namespace mlxr
