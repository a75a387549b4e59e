#include "cli/chat/answer.h"

#include <unistd.h>

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

// U+0000 to U+001F without newline and tab, U+007F, and U+0080 to U+009F (C2 80 to C2 9F in UTF-8).
std::string without_controls(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {
      ++i;
    } else if ((byte >= 0x20 && byte != 0x7F) || byte == '\n' || byte == '\t') {
      out += text[i];
    }
  }
  return out;
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

void print_text(const std::string& text) {
  static const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  const std::string shown = terminal ? without_controls(text) : text;
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fflush(stdout);
}

std::string describe_cut(const Answer& answer, bool limited) {
  if (answer.finish_reason != "length") return "";
  return limited ? "cut: max_tokens is reached" : "cut: the context window is full";
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
