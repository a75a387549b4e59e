#include "daemon/server/grpc/inference_methods.h"

#include "daemon/server/answer.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/completion_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/embedding.h"
#include "daemon/server/grpc/answer_stream.h"
#include "daemon/server/grpc/message.h"
#include "daemon/server/grpc/normal_form.h"

namespace mlxr::rpc {
namespace {

StreamOptions stream_options(Call& call, const ServedModel& model) {
  return {call.record.id, model.name(), model.model().tokenizer,
          [&call](const ApiError& error) { call.fail(error); }};
}

v1::TokenizeResponse tokenized(Services& services, const ServedModel& model,
                               const native::TokenizeRequest& request) {
  v1::TokenizeResponse response;
  for (const int32_t token : native::token_ids(services, model, request)) {
    response.add_tokens(token);
    if (request.with_pieces) {
      response.add_pieces(tokenizer_of(model.model())->token_bytes(token));
    }
  }
  response.set_context_length(services.models.context_length(model.name(), model.model().facts));
  return response;
}

v1::EmbedResponse embedded(const ServedModel& model, const Embeddings& embeddings) {
  v1::EmbedResponse response;
  response.set_model(model.name());
  for (const std::vector<float>& vector : embeddings.vectors) {
    response.add_embeddings()->mutable_values()->Add(vector.begin(), vector.end());
  }
  response.mutable_usage()->set_prompt_tokens(embeddings.tokens);
  return response;
}

native::DetokenizeRequest to_detokenize_request(const v1::DetokenizeRequest& message) {
  return {message.model(), {message.tokens().begin(), message.tokens().end()}};
}

v1::DetokenizeResponse detokenized(const ServedModel& model,
                                   const native::DetokenizeRequest& request) {
  v1::DetokenizeResponse response;
  response.set_text(native::text_of(model, request));
  return response;
}

}  // namespace

Task<void> generate(Services& services, Call& call) {
  openai::CompletionRequest request = co_await services.run_on(services.work, [&call] {
    return to_completion_request(read_message<v1::GenerateRequest>(call));
  });
  request.options.timeout = call.time_limit();
  Generation generation(
      services, call,
      co_await services.acquire(call, request.options.model, request.options.timeout));
  call.record.model = generation.model().name();
  co_await services.run_on(services.work, [&] {
    request = with_created(services, generation.model().name(), std::move(request));
    submit_completion(services, generation, request);
    return true;
  });
  const auto format = text_stream(stream_options(call, generation.model()));
  const AnswerOptions options{true, request.options.n, {}};
  co_await send_answer(call, services, generation, *format, options);
}

Task<void> chat(Services& services, Call& call) {
  openai::ChatRequest request = co_await services.run_on(
      services.work, [&call] { return to_chat_request(read_message<v1::ChatRequest>(call)); });
  request.options.timeout = call.time_limit();
  Generation generation(
      services, call,
      co_await services.acquire(call, request.options.model, request.options.timeout));
  call.record.model = generation.model().name();
  AnswerOptions options{true, request.options.n, {}};
  co_await services.run_on(services.work, [&] {
    request = with_created(services, generation.model().name(), std::move(request));
    const ChatPrompt prompt = fitting_chat_prompt(services, generation.model(), request, call);
    options.rules = prompt.rules;
    submit_chat(generation, request, prompt);
    return true;
  });
  const auto format = chat_stream(stream_options(call, generation.model()));
  co_await send_answer(call, services, generation, *format, options);
}

Task<void> embed(Services& services, Call& call) {
  EmbedRequest request = co_await services.run_on(
      services.work, [&call] { return to_embed_request(read_message<v1::EmbedRequest>(call)); });
  request.options.timeout = call.time_left();
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(call, request.options.model, request.options.timeout);
  call.record.model = model->name();
  const auto embeddings = co_await mlxr::embed(services, call, model, request);
  if (embeddings) {
    co_await call.respond(to_response(embedded(*model, *embeddings)));
  }
}

Task<void> tokenize(Services& services, Call& call) {
  const native::TokenizeRequest request = co_await services.run_on(services.work, [&call] {
    return to_tokenize_request(read_message<v1::TokenizeRequest>(call));
  });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(
      call, request.chat ? request.chat->options.model : request.model, call.time_left());
  call.record.model = model->name();
  Response response = co_await services.run_on(
      services.work, [&] { return to_response(tokenized(services, *model, request)); });
  co_await call.respond(std::move(response));
}

Task<void> detokenize(Services& services, Call& call) {
  const native::DetokenizeRequest request = co_await services.run_on(services.work, [&call] {
    return to_detokenize_request(read_message<v1::DetokenizeRequest>(call));
  });
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(call, request.model, call.time_left());
  call.record.model = model->name();
  Response response = co_await services.run_on(
      services.work, [&] { return to_response(detokenized(*model, request)); });
  co_await call.respond(std::move(response));
}

}  // namespace mlxr::rpc
