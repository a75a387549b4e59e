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

std::vector<std::string> marks_of(const AnswerRules& rules) {
  const auto& tags = rules.syntax.reasoning;
  return tags ? std::vector<std::string>{tags->open, tags->close} : std::vector<std::string>{};
}

std::string_view first_character(std::string_view text) {
  size_t size = 1;
  while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) {
    ++size;
  }
  return text.substr(0, size);
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
  AnswerPiece piece{choice_, {}, {}, std::exchange(event.prompt_logprobs, {})};
  if (!places_ && rules_.place_tokens && !event.logprobs.empty()) {
    places_.emplace(marks_of(rules_), rules_.syntax.opening.size());
  }
  if (places_) {
    places_->add(event.logprobs);
  }
  const bool first = answer_.end.tokens.empty() && !rules_.syntax.opening.empty();
  if (first && (!event.tokens.empty() || event.final)) {
    read(rules_.syntax.opening, piece);
  }
  read(event.text, piece);
  answer_.end.tokens.insert(answer_.end.tokens.end(), event.tokens.begin(), event.tokens.end());
  piece.logprobs = std::exchange(event.logprobs, {});
  if (!places_) {
    answer_.logprobs.insert(answer_.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
  }
  if (!piece.prompt_logprobs.empty()) {
    answer_.prompt_logprobs = piece.prompt_logprobs;
  }
  if (event.final) {
    ChatEvents events;
    parser_->finish(events);
    for (const ChatEvent& one : events) {
      keep(one, piece);
    }
    end(event);
  }
  return piece;
}

// Where tokens are to be placed, a character at a time: what the parser gives then shows where.
void AnswerBuilder::read(std::string_view text, AnswerPiece& piece) {
  while (!text.empty()) {
    const std::string_view next = places_ ? first_character(text) : text;
    if (places_) {
      places_->read(next);
    }
    ChatEvents events;
    parser_->push(next, events);
    for (const ChatEvent& event : events) {
      keep(event, piece);
    }
    text.remove_prefix(next.size());
  }
}

std::vector<GeneratedLogprob> AnswerBuilder::tokens_of(const ChatEvent& event) {
  if (!places_) {
    return {};
  }
  const bool text = event.kind == ChatEvent::Kind::kText;
  if (!text && event.kind != ChatEvent::Kind::kReasoning) {
    places_->skip();
    return {};
  }
  std::vector<GeneratedLogprob> tokens = places_->take(event.kind, event.text);
  auto& all = text ? answer_.text_logprobs : answer_.reasoning_logprobs;
  all.insert(all.end(), tokens.begin(), tokens.end());
  return tokens;
}

void AnswerBuilder::keep(const ChatEvent& event, AnswerPiece& piece) {
  std::vector<GeneratedLogprob> tokens = tokens_of(event);
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
    AnswerPart& part = piece.parts.back();
    part.event.text += event.text;
    part.logprobs.insert(part.logprobs.end(), tokens.begin(), tokens.end());
  } else {
    piece.parts.push_back({event, std::move(id), std::move(tokens)});
  }
}

void AnswerBuilder::end(const GenerateEvent& event) {
  answer_.end.reason = event.reason;
  answer_.end.usage = event.usage;
  answer_.end.stop = stop_that_matched(rules_, answer_, event);
  answer_.end.calls = static_cast<int>(answer_.calls.size());
  if (rules_.tokenizer && !answer_.reasoning.empty()) {
    const auto thought = rules_.tokenizer->encode(answer_.reasoning, false, false).size();
    answer_.end.reasoning_tokens = static_cast<int64_t>(thought);
  }
}

}  // namespace mlxr
