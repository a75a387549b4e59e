// Turns one choice's events into what APIs send: parses the text, names calls, keeps what a whole
// answer needs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/chat/answer_parser.h"
#include "daemon/server/answer_format.h"
#include "daemon/server/token_places.h"

namespace mlxr {

struct AnswerRules {
  AnswerSyntax syntax;
  std::string call_id_prefix = "call_";
  bool one_call = false;          // later calls are dropped
  std::vector<std::string> stop;  // the request's stop strings
  std::shared_ptr<const Tokenizer> tokenizer;
  bool place_tokens = false;  // parts have the logprobs of their tokens
};

class AnswerBuilder {
 public:
  AnswerBuilder(const AnswerRules& rules, int choice);

  // The piece that an event brings; a final event brings what was held back.
  AnswerPiece take(GenerateEvent& event);
  // After the final event.
  const Answer& answer() const { return answer_; }

 private:
  void read(std::string_view text, AnswerPiece& piece);
  void keep(const ChatEvent& event, AnswerPiece& piece);
  std::vector<GeneratedLogprob> tokens_of(const ChatEvent& event);
  void end(const GenerateEvent& event);

  const AnswerRules& rules_;
  std::unique_ptr<TextParser> parser_;
  int choice_;
  std::optional<TokenPlaces> places_;
  Answer answer_;
};

}  // namespace mlxr
