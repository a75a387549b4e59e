#include "cli/bench/load.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <latch>
#include <thread>
#include <utility>

#include "cli/client/interrupt.h"
#include "cli/client/sse_parser.h"
#include "core/base/error.h"

namespace mlxr::cli {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Json body_of(const std::string& model, const CompletionRequest& request) {
  return {{"model", model},
          {"prompt", request.prompt},
          {"max_tokens", request.generate},
          {"temperature", 0},
          {"ignore_eos", true},
          {"stream", true},
          {"stream_options", {{"include_usage", true}}}};
}

void take_event(const std::string& data, CompletionTimes& times) {
  if (data == "[DONE]") return;
  const Json event = Json::parse(data);
  if (event.contains("error")) {
    throw Error(ErrorCode::kInternal, event["error"].value("message", event.dump()));
  }
  for (const Json& choice : event.at("choices")) {
    if (!choice.value("text", "").empty()) times.chunks.push_back(now());
  }
  if (event.contains("usage") && event["usage"].is_object()) {
    const Json& usage = event["usage"];
    times.prompt_tokens = usage.at("prompt_tokens");
    times.generated_tokens = usage.at("completion_tokens");
    times.cached_tokens = usage.at("prompt_tokens_details").at("cached_tokens");
  }
}

CompletionTimes complete(const DaemonClient& client, const Json& body, const Interrupt& interrupt,
                         const std::function<void()>& on_first_token) {
  CompletionTimes times;
  SseParser events([&](const std::string& data) {
    const bool waiting = times.chunks.empty();
    take_event(data, times);
    if (waiting && !times.chunks.empty()) on_first_token();
  });
  times.sent = now();
  const bool whole = client.stream(
      "/v1/completions", body, [&](std::string_view bytes) { events.feed(bytes); }, interrupt);
  times.end = now();
  if (!whole) throw Error(ErrorCode::kUnavailable, "interrupted");
  if (times.chunks.empty()) throw Error(ErrorCode::kInternal, "an answer came without any text");
  return times;
}

}  // namespace

std::vector<CompletionTimes> run_load(const DaemonClient& client, const std::string& model,
                                      std::span<const CompletionRequest> requests) {
  curl_global_init(CURL_GLOBAL_DEFAULT);  // before there are threads
  const Interrupt interrupt;
  std::vector<CompletionTimes> answers(requests.size());
  std::vector<std::exception_ptr> failures(requests.size());
  {
    std::vector<Json> bodies;
    for (const CompletionRequest& request : requests) bodies.push_back(body_of(model, request));
    std::latch begun(std::ranges::count(requests, false, &CompletionRequest::late));
    std::vector<std::jthread> clients;
    for (size_t i = 0; i < requests.size(); ++i) {
      clients.emplace_back([&, i] {
        bool counted = requests[i].late;
        const auto count = [&] {
          if (!std::exchange(counted, true)) begun.count_down();
        };
        try {
          if (requests[i].late) begun.wait();
          answers[i] = complete(client, bodies[i], interrupt, count);
        } catch (...) {
          failures[i] = std::current_exception();
          count();
        }
      });
    }
  }
  curl_global_cleanup();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  return answers;
}

std::vector<double> chunk_gaps(std::span<const CompletionTimes> answers, double from, double to) {
  std::vector<double> gaps;
  for (const CompletionTimes& answer : answers) {
    for (size_t i = 1; i < answer.chunks.size(); ++i) {
      if (answer.chunks[i] < from || answer.chunks[i] > to) continue;
      gaps.push_back(answer.chunks[i] - answer.chunks[i - 1]);
    }
  }
  return gaps;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double rank = static_cast<double>(values.size() - 1) * share;
  const auto low = static_cast<size_t>(std::floor(rank));
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (rank - static_cast<double>(low));
}

}  // namespace mlxr::cli
