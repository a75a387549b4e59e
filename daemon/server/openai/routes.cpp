#include "daemon/server/openai/routes.h"

#include <algorithm>

#include "daemon/server/answer.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/completion_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/openai/answer_format.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/openai/embedding_request.h"
#include "daemon/server/openai/model_list.h"
#include "daemon/server/openai/response_routes.h"

namespace mlxr::openai {
namespace {

FormatOptions format_options(const RequestOptions& options, const ServedModel& model,
                             bool with_logprobs) {
  return {model.name(), with_logprobs, options.include_usage, model.model().tokenizer};
}

Task<void> chat_completions(Services& services, Exchange& exchange) {
  ChatRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_chat_request(exchange.request().body); });
  KeptStream stream(exchange, kEventStreamType, kEventStreamPing);
  Generation generation(services, exchange,
                        co_await services.acquire(exchange, request.options, stream));
  exchange.record.model = generation.model().name();
  AnswerOptions options{request.options.stream, request.options.n, {}};
  co_await services.run_on(services.work, [&] {
    request = with_created(services, generation.model().name(), std::move(request));
    const ChatPrompt prompt = fitting_chat_prompt(services, generation.model(), request, exchange);
    options.rules = prompt.rules;
    submit_chat(generation, request, prompt);
    return true;
  });
  const auto format =
      chat_format(format_options(request.options, generation.model(), request.n_logprobs >= 0));
  co_await send_answer(exchange, services, generation, *format, options);
}

// One for each choice; none unless the request asks for them.
std::vector<std::string> echoes(const Model& model, const CompletionRequest& request) {
  std::vector<std::string> texts;
  if (!request.echo) {
    return texts;
  }
  for (const PromptInput& input : request.prompts) {
    const auto* text = std::get_if<std::string>(&input);
    const std::string echo =
        text != nullptr ? *text
                        : tokenizer_of(model)->decode(std::get<std::vector<int32_t>>(input), false);
    texts.insert(texts.end(), static_cast<size_t>(request.options.n), echo);
  }
  return texts;
}

Task<void> completions(Services& services, Exchange& exchange) {
  CompletionRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_completion_request(exchange.request().body); });
  KeptStream stream(exchange, kEventStreamType, kEventStreamPing);
  Generation generation(services, exchange,
                        co_await services.acquire(exchange, request.options, stream));
  exchange.record.model = generation.model().name();
  FormatOptions shown =
      format_options(request.options, generation.model(), request.n_logprobs >= 0);
  shown.n = request.options.n;
  shown.best_of = request.best_of;
  co_await services.run_on(services.work, [&] {
    request = with_created(services, generation.model().name(), std::move(request));
    submit_completion(services, generation, request);
    shown.echo = echoes(generation.model().model(), request);
    shown.echo_logprobs = request.echo && request.n_logprobs >= 0;
    return true;
  });
  const auto format = text_format(std::move(shown));
  const AnswerOptions options{request.options.stream, request.best_of, {}};
  co_await send_answer(exchange, services, generation, *format, options);
}

Task<void> embeddings(Services& services, Exchange& exchange) {
  const EmbeddingRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_embedding_request(exchange.request().body); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(
      exchange, request.embed.options.model, request.embed.options.timeout);
  exchange.record.model = model->name();
  const auto answer = co_await embed(services, exchange, model, request.embed);
  if (!answer) {
    co_return;
  }
  Response response;
  response.body = co_await services.run_on(services.work, [&] {
    return to_text(embedding_body(*answer, model->name(), request.base64));
  });
  co_await exchange.respond(std::move(response));
}

Task<void> list_models(Services& services, Exchange& exchange) {
  Response response;
  response.body = co_await services.run_on(services.work,
                                           [&services] { return to_text(model_list(services)); });
  co_await exchange.respond(std::move(response));
}

Task<void> show_model(Services& services, Exchange& exchange) {
  const std::string name = exchange.request().path_values.at("name");
  Response response;
  response.body = co_await services.run_on(
      services.work, [&services, &name] { return to_text(model_object(services, name)); });
  co_await exchange.respond(std::move(response));
}

Json deleted_body(const std::string& name) {
  return {{"id", name}, {"object", "model"}, {"deleted", true}};
}

// Created models only: files in model folders belong to the user.
Task<void> delete_model(Services& services, Exchange& exchange) {
  const std::string name = exchange.request().path_values.at("name");
  Response response;
  response.body = co_await services.run_on(services.loads, [&services, &name] {
    erase_created(services, name);
    return to_text(deleted_body(name));
  });
  co_await exchange.respond(std::move(response));
}

}  // namespace

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"GET", "/v1/models", Access::kInference, "List the models", {"", "ModelList"}},
             with(list_models));
  router.add({"DELETE",
              "/v1/models/{name...}",
              Access::kAdmin,
              "Delete a created model",
              {"", "ModelDeleted"}},
             with(delete_model));
  router.add({"GET", "/v1/models/{name...}", Access::kInference, "One model", {"", "Model"}},
             with(show_model));
  router.add({"POST",
              "/v1/chat/completions",
              Access::kInference,
              "Answer a conversation",
              {"ChatRequest", "ChatCompletion", kEventStreamType}},
             with(chat_completions));
  router.add({"POST",
              "/v1/completions",
              Access::kInference,
              "Continue a text",
              {"CompletionRequest", "Completion", kEventStreamType}},
             with(completions));
  router.add({"POST",
              "/v1/embeddings",
              Access::kInference,
              "Vectors of texts",
              {"EmbeddingRequest", "EmbeddingList"}},
             with(embeddings));
  add_response_routes(router, services);
}

}  // namespace mlxr::openai
