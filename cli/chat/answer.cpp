#include "cli/chat/answer.h"

#include <chrono>
#include <cstdio>

#include "cli/client/interrupt.h"
#include "cli/client/sse_parser.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The text of a chunk of either endpoint; empty where it has none.
std::string text_of(const Json& choice) {
  if (choice.contains("text") && choice["text"].is_string()) return choice["text"];
  if (!choice.contains("delta")) return "";
  const Json& delta = choice["delta"];
  const auto content = delta.find("content");
  return content != delta.end() && content->is_string() ? content->get<std::string>() : "";
}

void take_usage(const Json& usage, Answer& answer) {
  answer.prompt_tokens = usage.value("prompt_tokens", 0);
  answer.generated_tokens = usage.value("completion_tokens", 0);
  if (usage.contains("prompt_tokens_details")) {
    answer.cached_tokens = usage["prompt_tokens_details"].value("cached_tokens", 0);
  }
}

}  // namespace

Answer stream_answer(const DaemonClient& client, const std::string& path, Json body,
                     const std::function<void(const std::string&)>& on_text) {
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  Answer answer;
  const auto start = Clock::now();
  SseParser parser([&](const std::string& data) {
    if (data == "[DONE]") return;
    const Json event = Json::parse(data);
    if (event.contains("error")) {
      throw Error(ErrorCode::kInternal, event["error"].value("message", "the answer failed"));
    }
    if (event.contains("usage") && event["usage"].is_object()) take_usage(event["usage"], answer);
    if (!event.contains("choices") || event["choices"].empty()) return;
    const Json& choice = event["choices"][0];
    const std::string text = text_of(choice);
    if (!text.empty()) {
      if (answer.text.empty()) answer.first_token_seconds = since(start);
      answer.text += text;
      on_text(text);
    }
    if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) {
      answer.finish_reason = choice["finish_reason"];
    }
  });
  const Interrupt interrupt;
  answer.interrupted = !client.stream(
      path, body, [&](std::string_view piece) { parser.feed(piece); }, interrupt);
  answer.seconds = since(start);
  return answer;
}

std::string describe_speed(const Answer& answer) {
  const double decoding = answer.seconds - answer.first_token_seconds;
  const double speed = decoding > 0 ? (answer.generated_tokens - 1) / decoding : 0;
  char text[160];
  std::snprintf(text, sizeof text,
                "%d prompt tokens (%d cached), %d generated at %.1f tokens/s, first after %.3f s",
                answer.prompt_tokens, answer.cached_tokens, answer.generated_tokens, speed,
                answer.first_token_seconds);
  return text;
}

}  // namespace mlxr::cli
