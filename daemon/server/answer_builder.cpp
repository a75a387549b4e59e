#include "daemon/server/answer_builder.h"

#include <iterator>
#include <utility>

#include "daemon/server/random_id.h"

namespace mlxr {
namespace {

// Mistral's templates accept nothing longer.
constexpr size_t kShortId = 9;

std::string new_call_id(const AnswerRules& rules) {
  return wants_short_call_ids(rules.syntax.tools) ? random_word(kShortId)
                                                  : random_id(rules.call_id_prefix);
}

// A stop token is counted and not listed, a stop string's tokens are both.
std::string stop_that_matched(const AnswerRules& rules, const Answer& answer,
                              const GenerateEvent& event) {
  const bool by_token =
      event.usage.generated_tokens > static_cast<int32_t>(answer.end.tokens.size());
  if (event.reason != FinishReason::kStop || by_token || rules.stop.empty() || !rules.tokenizer) {
    return "";
  }
  const std::string text = rules.tokenizer->decode(answer.end.tokens, true);
  size_t first = std::string::npos;
  std::string matched;
  for (const std::string& stop : rules.stop) {
    const size_t at = text.find(stop);
    if (at < first) {
      first = at;
      matched = stop;
    }
  }
  return matched;
}

}  // namespace

AnswerBuilder::AnswerBuilder(const AnswerRules& rules, int choice)
    : rules_(rules), parser_(make_answer_parser(rules.syntax)), choice_(choice) {}

AnswerPiece AnswerBuilder::take(GenerateEvent& event) {
  AnswerPiece piece{choice_, {}, {}};
  ChatEvents events;
  const bool first = answer_.end.tokens.empty() && !rules_.syntax.opening.empty();
  if (first && (!event.tokens.empty() || event.final)) {
    parser_->push(rules_.syntax.opening, events);
  }
  parser_->push(event.text, events);
  answer_.end.tokens.insert(answer_.end.tokens.end(), event.tokens.begin(), event.tokens.end());
  if (event.final) {
    parser_->finish(events);
    end(event);
  }
  for (const ChatEvent& one : events) {
    keep(one, piece);
  }
  piece.logprobs = std::exchange(event.logprobs, {});
  answer_.logprobs.insert(answer_.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
  if (event.final) {
    answer_.end.calls = static_cast<int>(answer_.calls.size());
  }
  return piece;
}

void AnswerBuilder::keep(const ChatEvent& event, AnswerPiece& piece) {
  const bool of_call =
      event.kind != ChatEvent::Kind::kText && event.kind != ChatEvent::Kind::kReasoning;
  if (of_call && rules_.one_call && event.call > 0) {
    return;
  }
  std::string id;
  switch (event.kind) {
    case ChatEvent::Kind::kText:
      answer_.text += event.text;
      break;
    case ChatEvent::Kind::kReasoning:
      answer_.reasoning += event.text;
      break;
    case ChatEvent::Kind::kCall:
      id = new_call_id(rules_);
      answer_.calls.push_back({id, event.text, ""});
      break;
    case ChatEvent::Kind::kArguments:
      answer_.calls.back().arguments += event.text;
      break;
    case ChatEvent::Kind::kCallEnd:
      break;
  }
  // Pieces of one kind are one piece for the client.
  const bool joins = !piece.parts.empty() && event.kind != ChatEvent::Kind::kCall &&
                     piece.parts.back().event.kind == event.kind;
  if (joins) {
    piece.parts.back().event.text += event.text;
  } else {
    piece.parts.push_back({event, std::move(id)});
  }
}

void AnswerBuilder::end(const GenerateEvent& event) {
  answer_.end.reason = event.reason;
  answer_.end.usage = event.usage;
  answer_.end.stop = stop_that_matched(rules_, answer_, event);
}

}  // namespace mlxr
