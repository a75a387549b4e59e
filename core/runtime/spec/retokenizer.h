// Lets a draft with another vocabulary propose: the two models meet in the text. What the model's
// tokens say is tokenised for the draft, and what the draft writes is tokenised for the model: a
// guess as any other (verify.h). Timor et al. 2025, "Accelerating LLM Inference with Lossless
// Speculative Decoding Algorithms for Heterogeneous Vocabularies" (string-level exact match).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/tokenizer/tokenizer.h"

namespace mlxr {

// The first difference between two vocabularies, as a phrase; nothing where ids mean the same.
std::optional<std::string> vocabulary_difference(const Tokenizer& model, const Tokenizer& draft);

// Of two models; its texts share it.
class Retokenizer {
 public:
  Retokenizer(std::shared_ptr<const Tokenizer> model, std::shared_ptr<const Tokenizer> draft);

  // What `drafted`, the draft's tokens after a text, is in the model's tokens after `history`, that
  // text: at most `most` tokens, whose bytes are a beginning of what was drafted. None where the
  // history's own tokens would be others if it went on so.
  std::vector<int32_t> proposal(std::span<const int32_t> history, std::span<const int32_t> drafted,
                                int32_t most) const;
  // Nothing that follows this drafted token can be proposed.
  bool ends(int32_t drafted) const { return draft_->is_special(drafted); }

  const std::shared_ptr<const Tokenizer>& model() const { return model_; }
  const std::shared_ptr<const Tokenizer>& draft() const { return draft_; }
  // What the draft was trained to read before a text.
  std::span<const int32_t> before_texts() const { return before_texts_; }

 private:
  std::vector<int32_t> following(std::span<const int32_t> history, const std::string& text) const;

  std::shared_ptr<const Tokenizer> model_, draft_;
  std::vector<int32_t> before_texts_;
};

// A sequence's text in the draft's tokens, while it grows. More text may change the last of them
// (the open ones); those before are settled. A new token costs O(open tokens).
class RetokenizedText {
 public:
  explicit RetokenizedText(std::shared_ptr<const Retokenizer> retokenizer);

  // `history`: all tokens of the sequence, which begin with those of the call before. Takes in some
  // thousands of them at most.
  void update(std::span<const int32_t> history);
  // All of the history is in tokens(): it was taken in, and does not end inside a character.
  bool whole() const { return whole_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // How many tokens stay what they are; fewer than all, so that one is left to be computed.
  size_t settled() const;

 private:
  void take_in(int32_t token, std::string& text);
  void append(std::string& text);
  void settle();

  std::shared_ptr<const Retokenizer> retokenizer_;
  StreamDecoder decoder_;
  size_t known_ = 0;  // tokens of the history that were taken in
  bool whole_ = false;
  std::vector<int32_t> tokens_;
  size_t open_ = 0;        // the first open one
  std::string open_text_;  // what those say
  bool fresh_ = true;      // nothing is before them but control tokens
};

}  // namespace mlxr
