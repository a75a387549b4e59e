#include "daemon/server/grpc/answer_stream.h"

#include <mlxr/v1/inference.pb.h>

namespace mlxr::rpc {
namespace {

v1::FinishReason finish_reason(const AnswerEnd& end) {
  if (end.reason == FinishReason::kLength) {
    return v1::FINISH_REASON_LENGTH;
  }
  return end.calls > 0 ? v1::FINISH_REASON_TOOL_CALLS : v1::FINISH_REASON_STOP;
}

void add_part(const AnswerPart& part, v1::AnswerDelta& delta) {
  const ChatEvent& event = part.event;
  switch (event.kind) {
    case ChatEvent::Kind::kText:
      delta.mutable_text()->append(event.text);
      break;
    case ChatEvent::Kind::kReasoning:
      delta.mutable_reasoning()->append(event.text);
      break;
    case ChatEvent::Kind::kCall: {
      v1::ToolCallDelta& call = *delta.add_tool_calls();
      call.set_index(event.call);
      call.set_id(part.call_id);
      call.set_name(event.text);
      break;
    }
    case ChatEvent::Kind::kArguments: {
      const int last = delta.tool_calls_size() - 1;
      const bool joins = last >= 0 && delta.tool_calls(last).index() == event.call;
      v1::ToolCallDelta& call = joins ? *delta.mutable_tool_calls(last) : *delta.add_tool_calls();
      call.set_index(event.call);
      call.mutable_arguments()->append(event.text);
      break;
    }
    case ChatEvent::Kind::kCallEnd:
      break;
  }
}

template <typename Response>
class StreamFormat : public AnswerFormat {
 public:
  explicit StreamFormat(StreamOptions options) : options_(std::move(options)) {}

  std::string content_type() const override { return ""; }
  std::string ping() const override { return ""; }  // HTTP/2 has pings of its own

  std::string opening(int) override {
    Response response;
    response.mutable_start()->set_id(options_.id);
    response.mutable_start()->set_model(options_.model);
    return response.SerializeAsString();
  }

  std::string piece(const AnswerPiece& piece) override {
    Response response;
    v1::AnswerDelta& delta = *response.mutable_delta();
    for (const AnswerPart& part : piece.parts) {
      add_part(part, delta);
    }
    for (const GeneratedLogprob& token : piece.logprobs) {
      add_logprob(token, delta);
    }
    if (delta.ByteSizeLong() == 0) {
      return "";
    }
    delta.set_choice(piece.choice);
    return response.SerializeAsString();
  }

  std::string finish(int choice, const AnswerEnd& end) override {
    Response response;
    v1::AnswerEnd& message = *response.mutable_end();
    message.set_choice(choice);
    message.set_finish_reason(finish_reason(end));
    message.set_stop(end.stop);
    message.mutable_tokens()->mutable_ids()->Add(end.tokens.begin(), end.tokens.end());
    return response.SerializeAsString();
  }

  std::string closing(const AnswerTotals& totals) override {
    Response response;
    v1::Usage& usage = *response.mutable_usage();
    usage.set_prompt_tokens(totals.prompt_tokens);
    usage.set_cached_tokens(totals.cached_tokens);
    usage.set_completion_tokens(totals.completion_tokens);
    return response.SerializeAsString();
  }

  // An error is the call's status, not a message.
  std::string failure(const ApiError& error) const override {
    options_.fail(error);
    return "";
  }

  Json whole(const std::vector<Answer>&, const AnswerTotals&) override {
    throw Error(ErrorCode::kInternal,
                "an answer over gRPC is always a stream: a bug of mlxrunnerd");
  }

 private:
  void add_logprob(const GeneratedLogprob& token, v1::AnswerDelta& delta) const {
    v1::TokenLogprob& message = *delta.add_logprobs();
    message.set_token(token.sampled.token);
    message.set_text(token.bytes);
    message.set_logprob(token.sampled.logprob);
    for (const TokenLogprob& other : token.sampled.top) {
      v1::TokenLogprob& top = *message.add_top();
      top.set_token(other.token);
      top.set_text(options_.tokenizer->token_bytes(other.token));
      top.set_logprob(other.logprob);
    }
  }

  StreamOptions options_;
};

}  // namespace

std::unique_ptr<AnswerFormat> chat_stream(StreamOptions options) {
  return std::make_unique<StreamFormat<v1::ChatResponse>>(std::move(options));
}

std::unique_ptr<AnswerFormat> text_stream(StreamOptions options) {
  return std::make_unique<StreamFormat<v1::GenerateResponse>>(std::move(options));
}

}  // namespace mlxr::rpc
