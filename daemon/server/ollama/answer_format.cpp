#include "daemon/server/ollama/answer_format.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <map>

#include "daemon/server/answer.h"
#include "daemon/server/openai/answer_format.h"

namespace mlxr::ollama {
namespace {

using Clock = std::chrono::steady_clock;

int64_t in_nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

std::string line(const Json& value) { return to_text(value) + "\n"; }

Json call_object(const ToolCall& call) {
  Json arguments = Json::parse(call.arguments, nullptr, false);
  return {{"function", {{"name", call.name}, {"arguments", std::move(arguments)}}}};
}

Json token_object(const std::string& bytes, float logprob) {
  Json list = Json::array();
  for (const char c : bytes) {
    list.push_back(static_cast<unsigned char>(c));
  }
  return {{"token", openai::token_text(bytes)},
          {"logprob", short_number(logprob)},
          {"bytes", std::move(list)}};
}

// Both shapes differ in where text lies only.
class LineFormat : public AnswerFormat {
 public:
  explicit LineFormat(FormatOptions options) : options_(std::move(options)) {}

  std::string content_type() const override { return "application/x-ndjson"; }
  // NDJSON has no comments: a piece without text.
  std::string ping() const override { return line(body("", "", {})); }
  std::string opening(int) override { return ""; }

  std::string piece(const AnswerPiece& piece) override {
    std::string bytes;
    for (const AnswerPart& part : piece.parts) {
      bytes += write(part);
    }
    return bytes;
  }

  std::string finish(int, const AnswerEnd& end) override {
    Json last = body("", "", {});
    add_end(last, end);
    return line(last);
  }
  std::string closing(const AnswerTotals&) override { return ""; }
  std::string failure(const ApiError& error) const override { return line(error_body(error)); }

  Json whole(const std::vector<Answer>& answers, const AnswerTotals&) override {
    const Answer& answer = answers.front();
    Json all = body(answer.text, options_.show_thinking ? answer.reasoning : "", answer.calls);
    if (options_.show_thinking) {
      add_logprobs(all, answer.reasoning_logprobs);
    }
    add_logprobs(all, answer.text_logprobs);
    add_end(all, answer.end);
    return all;
  }

 protected:
  virtual void put(Json& body, const std::string& text, const std::string& thinking,
                   const std::vector<ToolCall>& calls) const = 0;
  virtual void put_context(Json&, const std::vector<int32_t>&, const AnswerEnd&) const {}

 private:
  Json body(const std::string& text, const std::string& thinking,
            const std::vector<ToolCall>& calls) const {
    Json body{{"model", options_.model},
              {"created_at", timestamp(std::chrono::system_clock::now())}};
    put(body, text, thinking, calls);
    body["done"] = false;
    return body;
  }

  // A call is sent when it is complete: its arguments are an object here.
  std::string write(const AnswerPart& part) {
    const ChatEvent& event = part.event;
    switch (event.kind) {
      case ChatEvent::Kind::kText:
        return write_text(body(event.text, "", {}), part);
      case ChatEvent::Kind::kReasoning:
        return options_.show_thinking ? write_text(body("", event.text, {}), part) : "";
      case ChatEvent::Kind::kCall:
        call_ = {part.call_id, event.text, ""};
        return "";
      case ChatEvent::Kind::kArguments:
        call_.arguments += event.text;
        return "";
      case ChatEvent::Kind::kCallEnd:
        return line(body("", "", {call_}));
    }
    return "";
  }

  std::string write_text(Json body, const AnswerPart& part) const {
    add_logprobs(body, part.logprobs);
    return line(body);
  }

  void add_logprobs(Json& body, const std::vector<GeneratedLogprob>& tokens) const {
    for (const GeneratedLogprob& token : tokens) {
      if (!options_.with_logprobs) {
        return;
      }
      Json entry = token_object(token.bytes, token.sampled.logprob);
      for (const TokenLogprob& other : token.sampled.top) {
        entry["top_logprobs"].push_back(
            token_object(options_.tokenizer->token_bytes(other.token), other.logprob));
      }
      body["logprobs"].push_back(std::move(entry));
    }
  }

  void add_end(Json& body, const AnswerEnd& end) const {
    const GenerateUsage& usage = end.usage;
    body["done"] = true;
    body["done_reason"] = finish_name(end.reason);
    put_context(body, options_.prompt, end);
    body["total_duration"] =
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - options_.began).count();
    body["load_duration"] = options_.load_time.count();
    body["prompt_eval_count"] = usage.prompt_tokens;
    body["prompt_eval_duration"] = in_nanoseconds(usage.prefill_seconds);
    body["eval_count"] = usage.generated_tokens;
    body["eval_duration"] = in_nanoseconds(usage.decode_seconds);
  }

  FormatOptions options_;
  ToolCall call_;
};

class ChatLines : public LineFormat {
 public:
  using LineFormat::LineFormat;

 protected:
  void put(Json& body, const std::string& text, const std::string& thinking,
           const std::vector<ToolCall>& calls) const override {
    Json message{{"role", "assistant"}, {"content", text}};
    if (!thinking.empty()) {
      message["thinking"] = thinking;
    }
    if (!calls.empty()) {
      message["tool_calls"] = Json::array();
      for (const ToolCall& call : calls) {
        message["tool_calls"].push_back(call_object(call));
      }
    }
    body["message"] = std::move(message);
  }
};

class GenerateLines : public LineFormat {
 public:
  using LineFormat::LineFormat;

 protected:
  void put(Json& body, const std::string& text, const std::string& thinking,
           const std::vector<ToolCall>&) const override {
    body["response"] = text;
    if (!thinking.empty()) {
      body["thinking"] = thinking;
    }
  }

  void put_context(Json& body, const std::vector<int32_t>& prompt,
                   const AnswerEnd& end) const override {
    if (prompt.empty()) {
      return;
    }
    std::vector<int32_t> all = prompt;
    all.insert(all.end(), end.tokens.begin(), end.tokens.end());
    body["context"] = std::move(all);
  }
};

}  // namespace

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options) {
  return std::make_unique<ChatLines>(std::move(options));
}

std::unique_ptr<AnswerFormat> generate_format(FormatOptions options) {
  return std::make_unique<GenerateLines>(std::move(options));
}

Json error_body(const ApiError& error) { return {{"error", error.message}}; }

std::string timestamp(std::chrono::system_clock::time_point time) {
  using namespace std::chrono;
  const auto since = time.time_since_epoch();
  const auto whole = duration_cast<seconds>(since);
  const std::time_t clock = whole.count();
  std::tm parts{};
  gmtime_r(&clock, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 16> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%09lldZ",
                static_cast<long long>(duration_cast<nanoseconds>(since - whole).count()));
  return std::string(date.data()) + fraction.data();
}

Json load_body(const std::string& model, bool chat, const std::string& reason) {
  Json body{{"model", model}, {"created_at", timestamp(std::chrono::system_clock::now())}};
  if (chat) {
    body["message"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    body["response"] = "";
  }
  body["done"] = true;
  body["done_reason"] = reason;
  return body;
}

}  // namespace mlxr::ollama
