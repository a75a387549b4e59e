#include "daemon/server/openai/response_format.h"

#include <chrono>
#include <optional>
#include <utility>

#include "daemon/server/http/kept_stream.h"
#include "daemon/server/openai/answer_format.h"
#include "daemon/server/random_id.h"

namespace mlxr::openai {
namespace {

using Kind = ChatEvent::Kind;

int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Json token_json(const std::string& bytes, float logprob) {
  Json list = Json::array();
  for (const char c : bytes) {
    list.push_back(static_cast<unsigned char>(c));
  }
  return {
      {"token", token_text(bytes)}, {"logprob", short_number(logprob)}, {"bytes", std::move(list)}};
}

Json logprobs_json(const std::vector<GeneratedLogprob>& tokens, const Tokenizer* tokenizer) {
  Json list = Json::array();
  for (const GeneratedLogprob& token : tokens) {
    Json entry = token_json(token.bytes, token.sampled.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.sampled.top) {
      entry["top_logprobs"].push_back(
          token_json(tokenizer->token_bytes(other.token), other.logprob));
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json text_part(const std::string& text, Json logprobs) {
  return {{"type", "output_text"},
          {"annotations", Json::array()},
          {"logprobs", std::move(logprobs)},
          {"text", text}};
}

Json reasoning_part(const std::string& text) {
  return {{"type", "reasoning_text"}, {"text", text}};
}

// Items before their content is known.
Json message_item() {
  return {{"id", random_id("msg_")},
          {"type", "message"},
          {"status", "in_progress"},
          {"content", Json::array()},
          {"role", "assistant"}};
}
Json reasoning_item() {
  return {{"id", random_id("rs_")},
          {"type", "reasoning"},
          {"summary", Json::array()},
          {"content", Json::array()},
          {"status", "in_progress"}};
}
Json call_item(const std::string& call_id, const std::string& name) {
  return {{"id", random_id("fc_")},     {"type", "function_call"}, {"status", "in_progress"},
          {"arguments", std::string()}, {"call_id", call_id},      {"name", name}};
}

// The items of an answer as they come, and the events that tell of them.
class Items {
 public:
  // Writes an event; its number is added.
  using Emit = std::function<void(const char* type, Json fields)>;

  explicit Items(Emit emit) : emit_(std::move(emit)) {}

  void take(const AnswerPart& part, const Json& logprobs);
  // An answer has at least one item. A cut one is "incomplete".
  void finish(bool cut);
  bool empty() const { return done_.empty() && !open_; }
  const Json& items() const { return done_; }

 private:
  struct Open {
    Kind kind = Kind::kText;
    Json item;
    std::string text;
    Json logprobs = Json::array();
  };

  void open(Kind kind, Json item);
  void close(const char* status);
  Json place() const;  // fields that say which item an event is about
  Json part_place() const;
  Json part_of(const Open& open) const;
  void say(const std::string& text, const Json& logprobs);

  Emit emit_;
  Json done_ = Json::array();
  std::optional<Open> open_;
};

Json Items::place() const {
  return {{"item_id", open_->item["id"]}, {"output_index", done_.size()}};
}

Json Items::part_place() const {
  Json fields = place();
  fields["content_index"] = 0;
  return fields;
}

Json Items::part_of(const Open& open) const {
  return open.kind == Kind::kReasoning ? reasoning_part(open.text)
                                       : text_part(open.text, open.logprobs);
}

void Items::open(Kind kind, Json item) {
  close("completed");
  open_ = Open{kind, std::move(item), "", Json::array()};
  emit_("response.output_item.added", {{"output_index", done_.size()}, {"item", open_->item}});
  if (kind != Kind::kCall) {
    Json fields = part_place();
    fields["part"] = part_of(*open_);
    emit_("response.content_part.added", std::move(fields));
  }
}

void Items::say(const std::string& text, const Json& logprobs) {
  open_->text += text;
  Json fields = open_->kind == Kind::kCall ? place() : part_place();
  fields["delta"] = text;
  if (open_->kind == Kind::kText) {
    open_->logprobs.insert(open_->logprobs.end(), logprobs.begin(), logprobs.end());
    fields["logprobs"] = logprobs;
  }
  emit_(open_->kind == Kind::kText        ? "response.output_text.delta"
        : open_->kind == Kind::kReasoning ? "response.reasoning_text.delta"
                                          : "response.function_call_arguments.delta",
        std::move(fields));
}

void Items::take(const AnswerPart& part, const Json& logprobs) {
  const ChatEvent& event = part.event;
  switch (event.kind) {
    case Kind::kText:
    case Kind::kReasoning:
      if (!open_ || open_->kind != event.kind) {
        open(event.kind, event.kind == Kind::kText ? message_item() : reasoning_item());
      }
      say(event.text, logprobs);
      break;
    case Kind::kCall:
      open(event.kind, call_item(part.call_id, event.text));
      break;
    case Kind::kArguments:
      say(event.text, logprobs);
      break;
    case Kind::kCallEnd:
      close("completed");
      break;
  }
}

void Items::close(const char* status) {
  if (!open_) {
    return;
  }
  Open& open = *open_;
  if (open.kind == Kind::kCall) {
    open.item["arguments"] = open.text;
    Json fields = place();
    fields["name"] = open.item["name"];
    fields["arguments"] = open.text;
    emit_("response.function_call_arguments.done", std::move(fields));
  } else {
    const bool is_text = open.kind == Kind::kText;
    Json fields = part_place();
    fields["text"] = open.text;
    if (is_text) {
      fields["logprobs"] = open.logprobs;
    }
    emit_(is_text ? "response.output_text.done" : "response.reasoning_text.done",
          std::move(fields));
    fields = part_place();
    fields["part"] = part_of(open);
    emit_("response.content_part.done", std::move(fields));
    open.item["content"].push_back(part_of(open));
  }
  open.item["status"] = status;
  emit_("response.output_item.done", {{"output_index", done_.size()}, {"item", open.item}});
  done_.push_back(std::move(open.item));
  open_.reset();
}

void Items::finish(bool cut) {
  if (empty()) {
    open(Kind::kText, message_item());
  }
  close(cut ? "incomplete" : "completed");
}

class ResponseFormat : public AnswerFormat {
 public:
  explicit ResponseFormat(ResponseOptions options)
      : options_(std::move(options)),
        created_(unix_now()),
        items_([this](const char* type, Json fields) { emit(type, std::move(fields)); }) {}

  std::string content_type() const override { return kEventStreamType; }
  std::string ping() const override { return kEventStreamPing; }

  std::string opening(int) override {
    const Json response = response_in("in_progress");
    emit("response.created", {{"response", response}});
    emit("response.in_progress", {{"response", response}});
    return taken();
  }

  std::string piece(const AnswerPiece& piece) override {
    for (const AnswerPart& part : piece.parts) {
      items_.take(part, logprobs_of(part.logprobs));
    }
    return taken();
  }

  std::string finish(int, const AnswerEnd& end) override {
    cut_ = end.reason == FinishReason::kLength;
    items_.finish(cut_);
    return taken();
  }

  std::string closing(const AnswerTotals& totals) override {
    const Json response = complete(totals);
    emit(cut_ ? "response.incomplete" : "response.completed", {{"response", response}});
    return taken();
  }

  std::string failure(const ApiError& error) const override {
    Json response = response_in("failed");
    response["error"] = {{"code", error.status == 429 ? "rate_limit_exceeded" : "server_error"},
                         {"message", error.message}};
    return written("response.failed", {{"response", std::move(response)}}, number_);
  }

  Json whole(const std::vector<Answer>& answers, const AnswerTotals& totals) override {
    const Answer& answer = answers.front();
    const auto part = [](Kind kind, const std::string& text, const std::string& id = "") {
      AnswerPart made;
      made.event.kind = kind;
      made.event.text = text;
      made.call_id = id;
      return made;
    };
    if (!answer.reasoning.empty()) {
      items_.take(part(Kind::kReasoning, answer.reasoning), Json::array());
    }
    if (!answer.text.empty()) {
      items_.take(part(Kind::kText, answer.text), logprobs_of(answer.text_logprobs));
    }
    for (const ToolCall& call : answer.calls) {
      items_.take(part(Kind::kCall, call.name, call.id), Json::array());
      items_.take(part(Kind::kArguments, call.arguments), Json::array());
      items_.take(part(Kind::kCallEnd, ""), Json::array());
    }
    finish(0, answer.end);
    return complete(totals);
  }

 private:
  Json logprobs_of(const std::vector<GeneratedLogprob>& tokens) const {
    return options_.with_logprobs ? logprobs_json(tokens, options_.tokenizer.get()) : Json::array();
  }

  static std::string written(const char* type, Json fields, int64_t number) {
    Json event{{"type", type}, {"sequence_number", number}};
    event.update(fields);
    return sse_event(to_text(event), type);
  }

  void emit(const char* type, Json fields) {
    bytes_ += written(type, std::move(fields), number_++);
  }
  std::string taken() { return std::exchange(bytes_, ""); }

  Json response_in(const char* status) const {
    Json response{{"id", options_.id},
                  {"object", "response"},
                  {"created_at", created_},
                  {"status", status},
                  {"background", false},
                  {"error", nullptr},
                  {"incomplete_details", nullptr}};
    response["model"] = options_.model;
    response["output"] = items_.items();
    response.update(options_.shown);
    response["usage"] = nullptr;
    return response;
  }

  Json complete(const AnswerTotals& totals) {
    Json response = response_in(cut_ ? "incomplete" : "completed");
    if (cut_) {
      response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    } else {
      response["completed_at"] = unix_now();
    }
    response["usage"] = usage(totals);
    if (options_.keep) {
      options_.keep(response);
    }
    return response;
  }

  static Json usage(const AnswerTotals& totals) {
    return {{"input_tokens", totals.prompt_tokens},
            {"input_tokens_details", {{"cached_tokens", totals.cached_tokens}}},
            {"output_tokens", totals.completion_tokens},
            {"output_tokens_details", {{"reasoning_tokens", totals.reasoning_tokens}}},
            {"total_tokens", totals.prompt_tokens + totals.completion_tokens}};
  }

  const ResponseOptions options_;
  const int64_t created_;
  int64_t number_ = 0;
  std::string bytes_;  // written, not yet taken
  bool cut_ = false;
  Items items_;
};

}  // namespace

std::unique_ptr<AnswerFormat> response_format(ResponseOptions options) {
  return std::make_unique<ResponseFormat>(std::move(options));
}

}  // namespace mlxr::openai
