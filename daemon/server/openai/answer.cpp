#include "daemon/server/openai/answer.h"

#include "daemon/server/http/api_error.h"
#include "daemon/server/http/sse.h"

namespace mlxr::openai {
namespace {

using Clock = std::chrono::steady_clock;

// Takes the cancellation of a generation away from the exchange before the generation goes.
class CancelOnDisconnect {
 public:
  CancelOnDisconnect(Exchange& exchange, Generation& generation) : exchange_(exchange) {
    exchange.on_disconnect([&generation] { generation.cancel(); });
    if (exchange.disconnected()) {
      generation.cancel();
    }
  }
  ~CancelOnDisconnect() { exchange_.on_disconnect(nullptr); }
  CancelOnDisconnect(const CancelOnDisconnect&) = delete;
  CancelOnDisconnect& operator=(const CancelOnDisconnect&) = delete;

 private:
  Exchange& exchange_;
};

// Adds up what the choices' final events say.
class Totals {
 public:
  explicit Totals(int choices_per_prompt) : choices_per_prompt_(choices_per_prompt) {}

  void add(const ChoiceEvent& item) {
    const GenerateUsage& usage = item.event.usage;
    if (item.choice % choices_per_prompt_ == 0) {
      usage_.prompt_tokens += usage.prompt_tokens;
      usage_.cached_tokens += usage.cached_tokens;
    }
    usage_.completion_tokens += usage.generated_tokens;
  }
  const Usage& usage() const { return usage_; }

 private:
  int choices_per_prompt_;
  Usage usage_;
};

void note_usage(RequestRecord& record, const Usage& usage) {
  record.prompt_tokens = static_cast<int32_t>(usage.prompt_tokens);
  record.cached_tokens = static_cast<int32_t>(usage.cached_tokens);
  record.generated_tokens = static_cast<int32_t>(usage.completion_tokens);
}

bool failed(const GenerateEvent& event) {
  return event.final &&
         (event.reason == FinishReason::kError || event.reason == FinishReason::kCancelled);
}

ApiError failure_of(const GenerateEvent& event, const Services& services) {
  if (event.reason == FinishReason::kCancelled) {
    return {503, "the answer was cut: the server is shutting down or the model was unloaded",
            "server_error", "", "cancelled"};
  }
  return to_api_error(event.error_code, event.error, services.draining);
}

// Waits until the cancelled choices are over, so that their record is complete.
Task<void> drain(Generation& generation, Totals& totals) {
  generation.cancel();
  while (!generation.finished()) {
    const auto item = co_await generation.next(Clock::time_point::max());
    if (item && item->event.final) {
      totals.add(*item);
    }
  }
}

Task<void> send_whole(Exchange& exchange, Services& services, Generation& generation,
                      AnswerFormat& format, Totals& totals) {
  std::vector<Answer> answers(static_cast<size_t>(generation.choices()));
  while (!generation.finished()) {
    std::optional<ChoiceEvent> item = co_await generation.next(Clock::time_point::max());
    GenerateEvent& event = item->event;
    Answer& answer = answers.at(static_cast<size_t>(item->choice));
    answer.text += event.text;
    answer.logprobs.insert(answer.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    if (!event.final) {
      continue;
    }
    totals.add(*item);
    if (failed(event)) {
      const ApiError error = failure_of(event, services);
      co_await drain(generation, totals);
      exchange.record.finish = "cancelled";
      if (exchange.disconnected()) {
        co_return;
      }
      exchange.record.finish = "error";
      throw RequestError(error);
    }
    answer.finish_reason = finish_name(event.reason);
    exchange.record.finish = answer.finish_reason;
  }
  Response response;
  response.body = to_text(format.whole(answers, totals.usage()));
  co_await exchange.respond(std::move(response));
}

class StreamedAnswer {
 public:
  StreamedAnswer(Exchange& exchange, Services& services, Generation& generation,
                 AnswerFormat& format, bool include_usage)
      : exchange_(exchange),
        services_(services),
        generation_(generation),
        format_(format),
        include_usage_(include_usage),
        sse_(exchange) {}

  Task<void> run(Totals& totals);

 private:
  Task<bool> begin();
  Task<bool> forward(const ChoiceEvent& item);
  Task<bool> send(Json piece);

  Exchange& exchange_;
  Services& services_;
  Generation& generation_;
  AnswerFormat& format_;
  bool include_usage_;
  bool broken_ = false;  // an error went into the stream
  SseStream sse_;
};

Task<bool> StreamedAnswer::send(Json piece) {
  if (include_usage_ && !piece.contains("usage")) {
    piece["usage"] = nullptr;
  }
  co_return co_await sse_.send(to_text(piece));
}

Task<bool> StreamedAnswer::begin() {
  bool alive = co_await sse_.begin();
  const std::vector<Json> opening = format_.opening(generation_.choices());
  for (const Json& piece : opening) {
    if (alive) {
      alive = co_await send(piece);
    }
  }
  co_return alive;
}

// False when the stream is over, because the client went or generation failed.
Task<bool> StreamedAnswer::forward(const ChoiceEvent& item) {
  const GenerateEvent& event = item.event;
  if (!event.text.empty() || !event.logprobs.empty()) {
    if (!co_await send(format_.piece(item.choice, event))) {
      co_return false;
    }
  }
  if (!event.final) {
    co_return true;
  }
  if (failed(event)) {
    broken_ = true;
    exchange_.record.finish = "error";
    co_await sse_.send(to_json(failure_of(event, services_)));
    co_return false;
  }
  exchange_.record.finish = finish_name(event.reason);
  co_return co_await send(format_.finish(item.choice, exchange_.record.finish));
}

Task<void> StreamedAnswer::run(Totals& totals) {
  bool alive = co_await begin();
  while (alive && !generation_.finished()) {
    const std::optional<ChoiceEvent> item = co_await generation_.next(sse_.next_ping());
    if (!item) {
      alive = co_await sse_.ping_if_idle();
      continue;
    }
    if (item->event.final) {
      totals.add(*item);
    }
    alive = co_await forward(*item);
  }
  if (!alive) {
    exchange_.record.finish = broken_ && !exchange_.disconnected() ? "error" : "cancelled";
    co_await drain(generation_, totals);
    co_return;
  }
  if (include_usage_) {
    alive = co_await send(format_.usage_piece(totals.usage()));
  }
  if (alive) {
    co_await sse_.send("[DONE]");
  }
}

}  // namespace

Task<void> send_answer(Exchange& exchange, Services& services, Generation& generation,
                       AnswerFormat& format, AnswerOptions options) {
  const CancelOnDisconnect guard(exchange, generation);
  Totals totals(options.choices_per_prompt);
  if (options.stream) {
    StreamedAnswer answer(exchange, services, generation, format, options.include_usage);
    co_await answer.run(totals);
  } else {
    co_await send_whole(exchange, services, generation, format, totals);
  }
  note_usage(exchange.record, totals.usage());
}

}  // namespace mlxr::openai
