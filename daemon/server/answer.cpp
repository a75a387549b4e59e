#include "daemon/server/answer.h"

#include "daemon/server/http/kept_stream.h"

namespace mlxr {
namespace {

using Clock = std::chrono::steady_clock;

// Adds up what the choices' final events say.
class Totals {
 public:
  explicit Totals(int choices_per_prompt) : choices_per_prompt_(choices_per_prompt) {}

  void add(const ChoiceEvent& item) {
    const GenerateUsage& usage = item.event.usage;
    if (item.choice % choices_per_prompt_ == 0) {
      sums_.prompt_tokens += usage.prompt_tokens;
      sums_.cached_tokens += usage.cached_tokens;
    }
    sums_.completion_tokens += usage.generated_tokens;
  }
  void add(const AnswerEnd& end) { sums_.reasoning_tokens += end.reasoning_tokens; }
  const AnswerTotals& sums() const { return sums_; }

 private:
  int choices_per_prompt_;
  AnswerTotals sums_;
};

void note_usage(RequestRecord& record, const AnswerTotals& sums) {
  record.prompt_tokens = static_cast<int32_t>(sums.prompt_tokens);
  record.cached_tokens = static_cast<int32_t>(sums.cached_tokens);
  record.generated_tokens = static_cast<int32_t>(sums.completion_tokens);
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

// One builder a choice.
std::vector<AnswerBuilder> builders_for(const Generation& generation, const AnswerRules& rules) {
  std::vector<AnswerBuilder> builders;
  for (int choice = 0; choice < generation.choices(); ++choice) {
    builders.emplace_back(rules, choice);
  }
  return builders;
}

std::string record_name(const AnswerEnd& end) {
  return end.calls > 0 && end.reason == FinishReason::kStop ? "tool_calls"
                                                            : finish_name(end.reason);
}

Task<void> send_whole(Exchange& exchange, Services& services, Generation& generation,
                      AnswerFormat& format, const AnswerRules& rules, Totals& totals) {
  std::vector<AnswerBuilder> builders = builders_for(generation, rules);
  while (!generation.finished()) {
    std::optional<ChoiceEvent> item = co_await generation.next(Clock::time_point::max());
    AnswerBuilder& builder = builders.at(static_cast<size_t>(item->choice));
    builder.take(item->event);
    if (!item->event.final) {
      continue;
    }
    totals.add(*item);
    if (failed(item->event)) {
      const ApiError error = failure_of(item->event, services);
      co_await drain(generation, totals);
      exchange.record.finish = "cancelled";
      if (exchange.disconnected()) {
        co_return;
      }
      exchange.record.finish = "error";
      note_usage(exchange.record, totals.sums());
      throw RequestError(error);
    }
    totals.add(builder.answer().end);
    exchange.record.finish = record_name(builder.answer().end);
  }
  std::vector<Answer> answers;
  for (const AnswerBuilder& builder : builders) {
    answers.push_back(builder.answer());
  }
  Response response;
  response.body = to_text(format.whole(answers, totals.sums()));
  co_await exchange.respond(std::move(response));
}

class StreamedAnswer {
 public:
  StreamedAnswer(Exchange& exchange, Services& services, Generation& generation,
                 AnswerFormat& format, const AnswerRules& rules)
      : exchange_(exchange),
        services_(services),
        generation_(generation),
        format_(format),
        builders_(builders_for(generation, rules)),
        stream_(exchange, format.content_type(), format.ping()) {}

  Task<void> run(Totals& totals);

 private:
  Task<bool> forward(ChoiceEvent& item);
  Task<bool> send(std::string bytes);

  Exchange& exchange_;
  Services& services_;
  Generation& generation_;
  AnswerFormat& format_;
  std::vector<AnswerBuilder> builders_;
  bool broken_ = false;  // an error went into the stream
  KeptStream stream_;
};

Task<bool> StreamedAnswer::send(std::string bytes) {
  if (bytes.empty()) {
    co_return true;
  }
  co_return co_await stream_.send(std::move(bytes));
}

// False when the stream is over, because the client went or generation failed.
Task<bool> StreamedAnswer::forward(ChoiceEvent& item) {
  if (failed(item.event)) {
    broken_ = true;
    exchange_.record.finish = "error";
    co_await send(format_.failure(failure_of(item.event, services_)));
    co_return false;
  }
  AnswerBuilder& builder = builders_.at(static_cast<size_t>(item.choice));
  const AnswerPiece piece = builder.take(item.event);
  if (!piece.parts.empty() || !piece.logprobs.empty() || !piece.prompt_logprobs.empty()) {
    if (!co_await send(format_.piece(piece))) {
      co_return false;
    }
  }
  if (!item.event.final) {
    co_return true;
  }
  const AnswerEnd& end = builder.answer().end;
  exchange_.record.finish = record_name(end);
  co_return co_await send(format_.finish(item.choice, end));
}

Task<void> StreamedAnswer::run(Totals& totals) {
  bool alive = co_await stream_.begin();
  if (alive) {
    alive = co_await send(format_.opening(generation_.choices()));
  }
  while (alive && !generation_.finished()) {
    std::optional<ChoiceEvent> item = co_await generation_.next(stream_.next_ping());
    if (!item) {
      alive = co_await stream_.ping_if_idle();
      continue;
    }
    if (item->event.final) {
      totals.add(*item);
    }
    alive = co_await forward(*item);
    if (item->event.final) {
      totals.add(builders_.at(static_cast<size_t>(item->choice)).answer().end);
    }
  }
  if (!alive) {
    exchange_.record.finish = broken_ && !exchange_.disconnected() ? "error" : "cancelled";
    co_await drain(generation_, totals);
    co_return;
  }
  co_await send(format_.closing(totals.sums()));
}

}  // namespace

Task<void> send_answer(Exchange& exchange, Services& services, Generation& generation,
                       AnswerFormat& format, const AnswerOptions& options) {
  const CancelOnDisconnect guard(exchange, generation);
  Totals totals(options.choices_per_prompt);
  if (options.stream) {
    StreamedAnswer answer(exchange, services, generation, format, options.rules);
    co_await answer.run(totals);
  } else {
    co_await send_whole(exchange, services, generation, format, options.rules, totals);
  }
  note_usage(exchange.record, totals.sums());
}

std::string finish_name(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

}  // namespace mlxr
