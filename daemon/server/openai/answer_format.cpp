#include "daemon/server/openai/answer_format.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "daemon/server/answer.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/openai/best_of.h"
#include "daemon/server/random_id.h"

namespace mlxr::openai {
namespace {

bool is_utf8(const std::string& bytes) {
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

int64_t characters(const std::string& text) {
  int64_t count = 0;
  for (const char c : text) {
    count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  }
  return count;
}

// Where the tokens of a prompt lie in its text, which is shown without the mark that may begin it.
std::vector<int64_t> prompt_offsets(const std::shared_ptr<const Tokenizer>& tokenizer,
                                    const std::vector<GeneratedLogprob>& tokens,
                                    const std::string& shown) {
  StreamDecoder decoder(tokenizer, false);
  std::vector<int64_t> offsets;
  int64_t end = 0;
  for (const GeneratedLogprob& token : tokens) {
    offsets.push_back(end);
    end += characters(decoder.push(token.sampled.token));
  }
  end += characters(decoder.flush());
  const int64_t size = characters(shown), hidden = end - size;
  for (int64_t& offset : offsets) {
    offset = std::clamp<int64_t>(offset - hidden, 0, size);
  }
  return offsets;
}

Json byte_list(const std::string& bytes) {
  Json list = Json::array();
  for (const char c : bytes) {
    list.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  }
  return list;
}

Json chat_token(const std::string& bytes, float logprob) {
  return {{"token", token_text(bytes)},
          {"logprob", short_number(logprob)},
          {"bytes", byte_list(bytes)}};
}

Json call_json(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

// Reasoning has two names on this wire; clients know one or the other.
void add_reasoning(Json& message, const std::string& reasoning) {
  message["reasoning_content"] = reasoning;
  message["reasoning"] = reasoning;
}

std::string chat_finish(const AnswerEnd& end) {
  return end.calls > 0 && end.reason == FinishReason::kStop ? "tool_calls"
                                                            : finish_name(end.reason);
}

class ChatFormat : public OpenAiFormat {
 public:
  using OpenAiFormat::OpenAiFormat;

  std::string opening(int choices) override {
    std::string bytes;
    for (int choice = 0; choice < choices; ++choice) {
      bytes += chunk(delta(choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
    }
    return bytes;
  }

  std::string piece(const AnswerPiece& piece) override {
    std::string bytes;
    for (const AnswerPart& part : piece.parts) {
      if (part.event.kind == ChatEvent::Kind::kCallEnd) {
        continue;
      }
      Json probabilities =
          part.event.kind == ChatEvent::Kind::kText ? logprobs(part.logprobs) : Json(nullptr);
      bytes += chunk(delta(piece.choice, part_delta(part), std::move(probabilities), nullptr));
    }
    return bytes;
  }

  std::string finish(int choice, const AnswerEnd& end) override {
    return chunk(delta(choice, Json::object(), nullptr, chat_finish(end)));
  }

  Json whole(const std::vector<Answer>& answers, const AnswerTotals& totals) override {
    Json choices = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      choices.push_back({{"index", i},
                         {"message", message(answers[i])},
                         {"logprobs", logprobs(answers[i].text_logprobs)},
                         {"finish_reason", chat_finish(answers[i].end)}});
    }
    Json body = head("chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = to_json(totals);
    return body;
  }

 protected:
  const char* piece_object() const override { return "chat.completion.chunk"; }

 private:
  static Json part_delta(const AnswerPart& part) {
    const ChatEvent& event = part.event;
    Json delta = Json::object();
    switch (event.kind) {
      case ChatEvent::Kind::kText:
        delta["content"] = event.text;
        break;
      case ChatEvent::Kind::kReasoning:
        add_reasoning(delta, event.text);
        break;
      case ChatEvent::Kind::kCall: {
        Json call = call_json(ToolCall{part.call_id, event.text, ""});
        Json first{{"index", event.call}};
        first.update(call);
        delta["tool_calls"] = Json::array({std::move(first)});
        break;
      }
      case ChatEvent::Kind::kArguments:
        delta["tool_calls"] =
            Json::array({{{"index", event.call}, {"function", {{"arguments", event.text}}}}});
        break;
      case ChatEvent::Kind::kCallEnd:
        break;
    }
    return delta;
  }

  static Json message(const Answer& answer) {
    Json message{{"role", "assistant"}, {"content", answer.text}, {"refusal", nullptr}};
    if (!answer.reasoning.empty()) {
      add_reasoning(message, answer.reasoning);
    }
    if (!answer.calls.empty()) {
      if (answer.text.empty()) {
        message["content"] = nullptr;
      }
      message["tool_calls"] = Json::array();
      for (const ToolCall& call : answer.calls) {
        message["tool_calls"].push_back(call_json(call));
      }
    }
    return message;
  }

  Json delta(int choice, Json content, Json probabilities, Json reason) {
    Json body = head(piece_object());
    body["choices"] = Json::array({{{"index", choice},
                                    {"delta", std::move(content)},
                                    {"logprobs", std::move(probabilities)},
                                    {"finish_reason", std::move(reason)}}});
    return body;
  }

  // Of tokens of the content.
  Json logprobs(const std::vector<GeneratedLogprob>& tokens) const {
    if (!with_logprobs()) {
      return nullptr;
    }
    Json content = Json::array();
    for (const GeneratedLogprob& token : tokens) {
      Json entry = chat_token(token.bytes, token.sampled.logprob);
      Json top = Json::array();
      for (const TokenLogprob& other : token.sampled.top) {
        top.push_back(chat_token(tokenizer()->token_bytes(other.token), other.logprob));
      }
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
};

class TextFormat : public OpenAiFormat {
 public:
  using OpenAiFormat::OpenAiFormat;

  std::string opening(int choices) override {
    offsets_.assign(static_cast<size_t>(choices), 0);
    std::string bytes;
    for (int choice = 0; choice < choices && !options().echo_logprobs; ++choice) {
      const std::string text = echo(static_cast<size_t>(choice));
      bytes += text.empty() ? "" : chunk(piece_of(choice, text, nullptr, nullptr));
    }
    return bytes;
  }

  std::string piece(const AnswerPiece& piece) override {
    std::string text;
    for (const AnswerPart& part : piece.parts) {
      text += part.event.text;
    }
    const auto choice = static_cast<size_t>(piece.choice);
    int64_t& offset = offsets_.at(choice);
    std::string bytes;
    if (!piece.prompt_logprobs.empty()) {
      Json lists = logprobs({}, offset);
      add_prompt(lists, piece.prompt_logprobs, echo(choice), offset);
      bytes = chunk(piece_of(piece.choice, echo(choice), std::move(lists), nullptr));
    }
    if (!text.empty() || !piece.logprobs.empty()) {
      bytes += chunk(piece_of(piece.choice, text, logprobs(piece.logprobs, offset), nullptr));
    }
    return bytes;
  }

  std::string finish(int choice, const AnswerEnd& end) override {
    return chunk(piece_of(choice, "", nullptr, finish_name(end.reason)));
  }

  Json whole(const std::vector<Answer>& all, const AnswerTotals& totals) override {
    const bool choose = options().best_of > options().n;
    const std::vector<Answer> answers =
        choose ? best_answers(all, options().best_of, options().n) : all;
    Json choices = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      choices.push_back({{"text", echo(i) + answers[i].text},
                         {"index", i},
                         {"logprobs", all_logprobs(answers[i], echo(i))},
                         {"finish_reason", finish_name(answers[i].end.reason)}});
    }
    Json body = head("text_completion");
    body["choices"] = std::move(choices);
    body["usage"] = to_json(totals);
    return body;
  }

 protected:
  const char* piece_object() const override { return "text_completion"; }

 private:
  Json piece_of(int choice, std::string text, Json probabilities, Json reason) {
    Json body = head(piece_object());
    body["choices"] = Json::array({{{"text", std::move(text)},
                                    {"index", choice},
                                    {"logprobs", std::move(probabilities)},
                                    {"finish_reason", std::move(reason)}}});
    return body;
  }

  Json all_logprobs(const Answer& answer, const std::string& echoed) const {
    int64_t offset = 0;
    if (answer.prompt_logprobs.empty()) {
      return logprobs(answer.logprobs, offset);
    }
    Json lists = logprobs({}, offset);
    add_prompt(lists, answer.prompt_logprobs, echoed, offset);
    for (const GeneratedLogprob& token : answer.logprobs) {
      add_token(lists, token, offset);
    }
    return lists;
  }

  Json logprobs(const std::vector<GeneratedLogprob>& tokens, int64_t& offset) const {
    if (!with_logprobs()) {
      return nullptr;
    }
    Json lists{{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
    for (const GeneratedLogprob& token : tokens) {
      add_token(lists, token, offset);
    }
    return lists;
  }

  void add_token(Json& lists, const GeneratedLogprob& token, int64_t& offset) const {
    Json top = Json::object();
    for (const TokenLogprob& other : token.sampled.top) {
      top[token_text(tokenizer()->token_bytes(other.token))] = short_number(other.logprob);
    }
    // The token itself is there also where it is none of the likeliest.
    const std::string text = token_text(token.bytes);
    if (!top.contains(text)) {
      top[text] = short_number(token.sampled.logprob);
    }
    lists["tokens"].push_back(text);
    lists["token_logprobs"].push_back(short_number(token.sampled.logprob));
    lists["top_logprobs"].push_back(std::move(top));
    lists["text_offset"].push_back(offset);
    offset += characters(token.bytes);
  }

  // Nothing comes before the first token that could make it likely.
  void add_prompt(Json& lists, const std::vector<GeneratedLogprob>& tokens,
                  const std::string& echoed, int64_t& offset) const {
    for (const GeneratedLogprob& token : tokens) {
      add_token(lists, token, offset);
    }
    lists["token_logprobs"].front() = nullptr;
    lists["top_logprobs"].front() = nullptr;
    lists["text_offset"] = prompt_offsets(options().tokenizer, tokens, echoed);
    offset = characters(echoed);
  }

  std::vector<int64_t> offsets_;  // characters of each choice so far
};

}  // namespace

Json to_json(const AnswerTotals& totals) {
  return {{"prompt_tokens", totals.prompt_tokens},
          {"completion_tokens", totals.completion_tokens},
          {"total_tokens", totals.prompt_tokens + totals.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", totals.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", totals.reasoning_tokens}}}};
}

OpenAiFormat::OpenAiFormat(const std::string& id_prefix, FormatOptions options)
    : id_(random_id(id_prefix)),
      options_(std::move(options)),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {}

std::string OpenAiFormat::content_type() const { return kEventStreamType; }

std::string OpenAiFormat::ping() const { return kEventStreamPing; }

std::string OpenAiFormat::failure(const ApiError& error) const {
  return sse_event(mlxr::to_json(error));
}

Json OpenAiFormat::head(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", options_.model}};
}

std::string OpenAiFormat::chunk(Json piece) const {
  if (options_.include_usage) {
    piece["usage"] = nullptr;
  }
  return sse_event(to_text(piece));
}

std::string OpenAiFormat::closing(const AnswerTotals& totals) {
  std::string bytes;
  if (options_.include_usage) {
    Json piece = head(piece_object());
    piece["choices"] = Json::array();
    piece["usage"] = to_json(totals);
    bytes = sse_event(to_text(piece));
  }
  return bytes + sse_event("[DONE]");
}

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options) {
  return std::make_unique<ChatFormat>("chatcmpl-", std::move(options));
}

std::unique_ptr<AnswerFormat> text_format(FormatOptions options) {
  return std::make_unique<TextFormat>("cmpl-", std::move(options));
}

std::string token_text(const std::string& bytes) {
  if (is_utf8(bytes)) {
    return bytes;
  }
  std::string text = "bytes:";
  for (const char c : bytes) {
    std::array<char, 8> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(c)));
    text += escaped.data();
  }
  return text;
}

}  // namespace mlxr::openai
