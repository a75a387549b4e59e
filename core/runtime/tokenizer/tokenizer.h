// Text to token ids and back, over the Rust text library (core/runtime/text-ffi).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/text-ffi/include/mlxr_text.h"

namespace mlxr {

// The vocabulary that a GGUF file carries in its metadata (tokenizer.ggml.*).
struct GgufVocab {
  std::string model;  // tokenizer.ggml.model: "gpt2" (BPE), "llama" (SentencePiece)...
  std::string pre;    // tokenizer.ggml.pre: name of the pre-tokenizer, BPE only
  std::vector<std::string> tokens;
  std::vector<float> scores;         // SentencePiece only
  std::vector<int32_t> token_types;  // 1 normal 2 unknown 3 control 4 user-defined 5 unused 6 byte
  std::vector<std::string> merges;   // "left right", BPE only
  std::optional<int32_t> bos, eos, unk, pad;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
};

class Tokenizer {
 public:
  // `json` is the content of a Hugging Face tokenizer.json. Throws Error{kCorruptFile}.
  static std::shared_ptr<const Tokenizer> from_json(std::string_view json);
  // Throws Error{kUnsupported} for a vocabulary kind or pre-tokenizer that it does not know.
  static std::shared_ptr<const Tokenizer> from_gguf(const GgufVocab& vocab);
  ~Tokenizer();

  // add_special: let the tokenizer add BOS/EOS as it was trained to.
  // parse_special: text such as "<|im_end|>" becomes that token; false for text that users typed.
  std::vector<int32_t> encode(std::string_view text, bool add_special, bool parse_special) const;
  // Invalid UTF-8 comes out as U+FFFD. skip_special leaves control tokens out.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;
  // The bytes that one token stands for, possibly a part of a character.
  std::string token_bytes(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view token) const;
  bool is_special(int32_t id) const;
  int32_t vocab_size() const;  // number of ids, added tokens included

  const mlxr_tokenizer* handle() const;  // for the other faces of the text library

 private:
  friend class StreamDecoder;
  std::string stream_push(mlxr_text_stream& stream, int32_t id, bool skip_special) const;

  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns a stream of tokens into a stream of text that never ends inside a character, and whose
// concatenation equals decode() of all tokens.
class StreamDecoder {
 public:
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special);
  // Text that `id` completes; empty while a character is incomplete.
  std::string push(int32_t id);
  // What is left at the end (U+FFFD for an incomplete character).
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  mlxr_text_stream stream_{};  // at most three bytes of an incomplete character
};

}  // namespace mlxr
