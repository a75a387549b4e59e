// Constrained decoding: which tokens may come next so that an answer fits a JSON schema, a regular
// expression or a grammar. Over the Rust text library (core/runtime/text-ffi, crate llguidance).
//
// A ConstraintCompiler belongs to a model, a Constraint to a grammar, a ConstraintMatcher to one
// answer. A mask is a bit for each token: bit (id % 32) of word id / 32.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/tokenizer/tokenizer.h"

namespace mlxr {

struct ConstraintSpec {
  enum class Kind {
    kJsonSchema,  // JSON text; {"type": "object"} is "any JSON object"
    kRegex,       // of the whole answer, in the syntax of Rust's regex crate
    kLark,        // llguidance's dialect of Lark; starts at `start`
    kGbnf,        // llama.cpp's notation; starts at `root`
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  bool lenient =
      false;  // of a schema: ignore keywords that cannot be enforced, instead of refusing

  friend bool operator==(const ConstraintSpec&, const ConstraintSpec&) = default;
};

inline size_t mask_words(size_t vocab_size) { return (vocab_size + 31) / 32; }

inline bool allows(std::span<const uint32_t> mask, int32_t token) {
  const auto id = static_cast<size_t>(token);
  return token >= 0 && id / 32 < mask.size() && (mask[id / 32] >> (id % 32) & 1) != 0;
}

// Where one answer stands in its grammar. A copy goes its own way from here. One thread at a time.
class ConstraintMatcher {
 public:
  ConstraintMatcher(const ConstraintMatcher& other);
  ConstraintMatcher& operator=(const ConstraintMatcher& other);
  ConstraintMatcher(ConstraintMatcher&&) noexcept = default;
  ConstraintMatcher& operator=(ConstraintMatcher&&) noexcept = default;
  ~ConstraintMatcher() = default;

  // Writes the tokens that may come next; every stop token where the answer may end, and only those
  // after its end. Tokens beyond the tokenizer's are not allowed. Throws Error{kInvalidArgument}
  // when no token fits or the grammar is too complex to go on.
  void mask(std::span<uint32_t> words);
  // Takes the token that was chosen. Throws Error{kInvalidArgument} when it is not allowed; the
  // matcher is of no use then.
  void accept(int32_t token);
  // How many of the tokens, one after the other, are allowed from here. The state stays.
  size_t count_valid(std::span<const int32_t> tokens);
  // A stop token came, or nothing else could come.
  bool is_stopped() const;

 private:
  friend class ConstraintCompiler;
  struct Deleter {
    void operator()(mlxr_grammar* grammar) const { mlxr_grammar_free(grammar); }
  };
  using Handle = std::unique_ptr<mlxr_grammar, Deleter>;
  static Handle clone(const mlxr_grammar* grammar);
  explicit ConstraintMatcher(Handle handle) : handle_(std::move(handle)) {}

  Handle handle_;
};

// A compiled grammar. Immutable, shared by threads.
class Constraint {
 public:
  explicit Constraint(ConstraintMatcher start) : start_(std::move(start)) {}
  ConstraintMatcher matcher() const { return start_; }

 private:
  ConstraintMatcher start_;
};

// Compiles grammars over one vocabulary and remembers the latest ones. Thread-safe.
class ConstraintCompiler {
 public:
  // `stop_tokens`: what ends an answer; all of them are allowed wherever a grammar may end.
  ConstraintCompiler(std::shared_ptr<const Tokenizer> tokenizer, std::vector<int32_t> stop_tokens);
  ~ConstraintCompiler();

  // The first call also builds the vocabulary's trie. Throws Error{kInvalidArgument} with what is
  // wrong with the grammar, and Error{kUnsupported} for a model that has no stop token.
  std::shared_ptr<const Constraint> compile(const ConstraintSpec& spec);

 private:
  struct Deleter {
    void operator()(mlxr_grammar_vocab* vocab) const { mlxr_grammar_vocab_free(vocab); }
  };
  struct Entry {
    ConstraintSpec spec;
    std::shared_ptr<const Constraint> constraint;
  };
  const mlxr_grammar_vocab* vocab();
  std::shared_ptr<const Constraint> find(const ConstraintSpec& spec);

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> stop_tokens_;
  std::once_flag built_;
  std::unique_ptr<mlxr_grammar_vocab, Deleter> vocab_;
  std::mutex mutex_;
  std::list<Entry> latest_;  // the most recently used first
};

}  // namespace mlxr
