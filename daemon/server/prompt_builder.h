// Turns conversations and raw text into prompt tokens, by the model's own template and tokenizer.
// Text that users typed never becomes a control token: "<|im_end|>" in a message is seven ordinary
// characters to the model, and cannot end the turn.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/runtime/model.h"
#include "daemon/server/prompt_end.h"

namespace mlxr {

// Tokens at the beginning of a prompt without which the rest loses its meaning.
struct PromptOpening {
  int32_t bos = 0;  // 1: the prompt begins with the beginning-of-text token
  int32_t system =
      0;  // that and, of a conversation, what the template makes of its system messages and tools
};

class PromptBuilder {
 public:
  // Throws Error{kInvalidArgument} when the model has no template or the template refuses, and
  // Error{kUnsupported} when it has no tokenizer. A last message that is left open must be one
  // whose content the template writes as it is, but for white space before it.
  std::vector<int32_t> chat(const Model& model, const nlohmann::ordered_json& messages,
                            const nlohmann::ordered_json& tools,
                            const nlohmann::ordered_json& template_variables,
                            PromptEnd end = PromptEnd::kNewTurn);

  // The text as it is, control tokens included, after BOS where the model wants one.
  std::vector<int32_t> raw(const Model& model, const std::string& text);

  // Of a prompt that one of the above has made, perhaps with more tokens before it or behind; the
  // second, of a conversation's.
  PromptOpening opening(const Model& model, std::span<const int32_t> prompt);
  PromptOpening opening(const Model& model, std::span<const int32_t> prompt,
                        const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                        const nlohmann::ordered_json& template_variables);

 private:
  struct TokenizerFacts {
    std::weak_ptr<const Tokenizer> owner;
    std::vector<std::string> control_texts;  // longest first
    std::vector<int32_t> bos;                // empty, or the one id
  };
  std::shared_ptr<const TokenizerFacts> facts_of(const std::shared_ptr<const Tokenizer>& tokenizer);
  std::vector<int32_t> tokens_of(const Model& model, const nlohmann::ordered_json& messages,
                                 ChatRenderOptions options, bool open = false);
  std::optional<int32_t> common_tokens(const Model& model, std::span<const int32_t> prompt,
                                       const nlohmann::ordered_json& messages,
                                       const ChatRenderOptions& options);

  std::mutex mutex_;
  std::map<const Tokenizer*, std::shared_ptr<const TokenizerFacts>> facts_;
};

// Throws Error{kUnsupported} when the model has none.
const std::shared_ptr<const Tokenizer>& tokenizer_of(const Model& model);

// Replaces control-token text in every string of a JSON value by unguessable marks, and finds the
// marks again in a rendered template.
class ControlTextGuard {
 public:
  explicit ControlTextGuard(const std::vector<std::string>& control_texts);

  nlohmann::ordered_json hide(const nlohmann::ordered_json& value);

  struct Piece {
    std::string text;
    bool typed = false;  // a user's text that looks like a control token
  };
  std::vector<Piece> split(const std::string& rendered) const;

 private:
  std::string hide_in(const std::string& text);

  const std::vector<std::string>& control_texts_;
  std::string mark_;
  std::vector<std::string> hidden_;
};

}  // namespace mlxr
