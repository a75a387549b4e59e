#include "daemon/server/anthropic/answer_format.h"

#include <optional>

#include "daemon/server/http/kept_stream.h"
#include "daemon/server/random_id.h"

namespace mlxr::anthropic {
namespace {

// An event's name is its type.
std::string event(const Json& body) {
  return sse_event(to_text(body), body["type"].get_ref<const std::string&>());
}

std::string stop_reason(const AnswerEnd& end) {
  if (end.reason == FinishReason::kLength) {
    return "max_tokens";
  }
  if (end.calls > 0) {
    return "tool_use";
  }
  return end.stop.empty() ? "end_turn" : "stop_sequence";
}

Json stop_sequence(const AnswerEnd& end) {
  return stop_reason(end) == "stop_sequence" ? Json(end.stop) : Json();
}

// Tokens that were read from the cache are counted apart.
Json usage(int64_t prompt, int64_t cached, int64_t generated) {
  return {{"input_tokens", prompt - cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", cached},
          {"output_tokens", generated}};
}

Json text_block(const std::string& text) { return {{"type", "text"}, {"text", text}}; }
Json thinking_block(const std::string& text) {
  return {{"type", "thinking"}, {"thinking", text}, {"signature", ""}};
}
Json call_block(const std::string& id, const std::string& name, Json input) {
  return {{"type", "tool_use"}, {"id", id}, {"name", name}, {"input", std::move(input)}};
}

class MessageFormat : public AnswerFormat {
 public:
  explicit MessageFormat(FormatOptions options)
      : options_(std::move(options)), id_(random_id("msg_")) {}

  std::string content_type() const override { return kEventStreamType; }
  std::string ping() const override { return event({{"type", "ping"}}); }

  std::string opening(int) override {
    return event({{"type", "message_start"},
                  {"message",
                   message(Json::array(), nullptr, nullptr, usage(options_.prompt_tokens, 0, 0))}});
  }

  std::string piece(const AnswerPiece& piece) override {
    std::string bytes;
    for (const AnswerPart& part : piece.parts) {
      bytes += write(part);
    }
    return bytes;
  }

  std::string finish(int, const AnswerEnd& end) override {
    std::string bytes = close_block();
    // An answer has at least one block, like a whole one.
    if (next_block_ == 0) {
      bytes += open_block(ChatEvent::Kind::kText, text_block(""));
      bytes += close_block();
    }
    const GenerateUsage& used = end.usage;
    return bytes +
           event({{"type", "message_delta"},
                  {"delta",
                   {{"stop_reason", stop_reason(end)}, {"stop_sequence", stop_sequence(end)}}},
                  {"usage", usage(used.prompt_tokens, used.cached_tokens, used.generated_tokens)}});
  }

  std::string closing(const AnswerTotals&) override { return event({{"type", "message_stop"}}); }
  std::string failure(const ApiError& error) const override {
    return event(error_body(error, options_.request_id));
  }

  Json whole(const std::vector<Answer>& answers, const AnswerTotals& totals) override {
    const Answer& answer = answers.front();
    Json content = Json::array();
    if (!answer.reasoning.empty() && options_.show_thinking) {
      content.push_back(thinking_block(answer.reasoning));
    }
    if (!answer.text.empty() || answer.calls.empty()) {
      content.push_back(text_block(answer.text));
    }
    for (const ToolCall& call : answer.calls) {
      content.push_back(
          call_block(call.id, call.name, Json::parse(call.arguments, nullptr, false)));
    }
    return message(std::move(content), stop_reason(answer.end), stop_sequence(answer.end),
                   usage(totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens));
  }

 private:
  Json message(Json content, Json reason, Json sequence, Json used) const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", options_.model},
            {"content", std::move(content)},
            {"stop_reason", std::move(reason)},
            {"stop_sequence", std::move(sequence)},
            {"usage", std::move(used)}};
  }

  std::string open_block(ChatEvent::Kind kind, Json block) {
    std::string bytes = close_block();
    open_ = kind;
    return bytes + event({{"type", "content_block_start"},
                          {"index", next_block_++},
                          {"content_block", std::move(block)}});
  }

  std::string close_block() {
    if (!open_) {
      return "";
    }
    // Nothing is signed here; clients still wait for a signature.
    std::string bytes = *open_ == ChatEvent::Kind::kReasoning
                            ? delta({{"type", "signature_delta"}, {"signature", ""}})
                            : "";
    open_.reset();
    return bytes + event({{"type", "content_block_stop"}, {"index", next_block_ - 1}});
  }

  std::string delta(Json content) const {
    return event({{"type", "content_block_delta"},
                  {"index", next_block_ - 1},
                  {"delta", std::move(content)}});
  }

  std::string write(const AnswerPart& part) {
    const ChatEvent& piece = part.event;
    switch (piece.kind) {
      case ChatEvent::Kind::kText:
        return say(piece.kind, text_block(""), {{"type", "text_delta"}, {"text", piece.text}});
      case ChatEvent::Kind::kReasoning:
        if (!options_.show_thinking) {
          return "";
        }
        return say(piece.kind, thinking_block(""),
                   {{"type", "thinking_delta"}, {"thinking", piece.text}});
      case ChatEvent::Kind::kCall:
        return open_block(piece.kind, call_block(part.call_id, piece.text, Json::object()));
      case ChatEvent::Kind::kArguments:
        return delta({{"type", "input_json_delta"}, {"partial_json", piece.text}});
      case ChatEvent::Kind::kCallEnd:
        return close_block();
    }
    return "";
  }

  // Goes on with a block of this kind, or opens one first: a delta carries the number of its block.
  std::string say(ChatEvent::Kind kind, Json block, Json content) {
    std::string bytes = open_ == kind ? "" : open_block(kind, std::move(block));
    return bytes += delta(std::move(content));
  }

  FormatOptions options_;
  std::string id_;
  std::optional<ChatEvent::Kind> open_;
  int next_block_ = 0;
};

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

std::unique_ptr<AnswerFormat> message_format(FormatOptions options) {
  return std::make_unique<MessageFormat>(std::move(options));
}

Json error_body(const ApiError& error, const std::string& request_id) {
  return {{"type", "error"},
          {"error", {{"type", error_type(error.status)}, {"message", error.message}}},
          {"request_id", request_id}};
}

}  // namespace mlxr::anthropic
