#include "daemon/server/openai/routes.h"

#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/answer.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/openai/model_list.h"

namespace mlxr::openai {
namespace {

SamplingParams sampling_for(const ServedModel& model, const Json& body) {
  SamplingParams sampling = model.default_sampling();
  apply_sampling(Fields(body), sampling);
  check_token_ids(sampling, model.model().facts.vocab_size);
  return sampling;
}

void submit_chat(Services& services, Generation& generation, const ChatRequest& request) {
  const ServedModel& model = generation.model();
  const SamplingParams sampling = sampling_for(model, request.body);
  const std::vector<int32_t> prompt = services.prompts.chat(
      model.model(), request.messages, request.tools, request.template_variables);
  for (int i = 0; i < request.options.n; ++i) {
    generation.submit(
        to_generate_request(request.options, sampling, request.n_logprobs, prompt, i));
  }
}

Task<void> chat_completions(Services& services, Exchange& exchange) {
  const ChatRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_chat_request(exchange.request().body); });
  Generation generation(exchange.executor(), co_await services.acquire(request.options.model));
  exchange.record.model = generation.model().name();
  co_await services.run_on(services.work, [&] {
    submit_chat(services, generation, request);
    return true;
  });
  const auto format = chat_format(generation.model().name(), request.n_logprobs >= 0,
                                  generation.model().model().tokenizer);
  co_await send_answer(exchange, services, generation, *format,
                       {request.options.stream, request.options.include_usage, request.options.n});
}

std::vector<int32_t> prompt_tokens(Services& services, const Model& model,
                                   const PromptInput& input) {
  std::vector<int32_t> tokens;
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&input)) {
    tokens = *ids;
  } else {
    tokens = services.prompts.raw(model, std::get<std::string>(input));
  }
  if (tokens.empty()) {
    throw bad_field("prompt",
                    "\"prompt\" is empty: this model has no beginning-of-text token to start from");
  }
  for (const int32_t token : tokens) {
    if (token >= model.facts.vocab_size) {
      throw bad_field("prompt", "\"prompt\" names token " + std::to_string(token) +
                                    "; this model's tokens are 0 to " +
                                    std::to_string(model.facts.vocab_size - 1));
    }
  }
  return tokens;
}

void submit_completion(Services& services, Generation& generation,
                       const CompletionRequest& request) {
  const ServedModel& model = generation.model();
  const SamplingParams sampling = sampling_for(model, request.body);
  try {
    for (const PromptInput& input : request.prompts) {
      const std::vector<int32_t> prompt = prompt_tokens(services, model.model(), input);
      for (int i = 0; i < request.options.n; ++i) {
        generation.submit(
            to_generate_request(request.options, sampling, request.n_logprobs, prompt, i));
      }
    }
  } catch (const Error& error) {
    ApiError shown = to_api_error(error.code(), error.what(), services.draining);
    if (error.code() == ErrorCode::kContextOverflow) {
      shown.param = "prompt";
    }
    throw RequestError(shown);
  }
}

Task<void> completions(Services& services, Exchange& exchange) {
  const CompletionRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_completion_request(exchange.request().body); });
  Generation generation(exchange.executor(), co_await services.acquire(request.options.model));
  exchange.record.model = generation.model().name();
  co_await services.run_on(services.work, [&] {
    submit_completion(services, generation, request);
    return true;
  });
  const auto format = text_format(generation.model().name(), request.n_logprobs >= 0,
                                  generation.model().model().tokenizer);
  co_await send_answer(exchange, services, generation, *format,
                       {request.options.stream, request.options.include_usage, request.options.n});
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

}  // namespace

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add("GET", "/v1/models", with(list_models));
  router.add("GET", "/v1/models/{name...}", with(show_model));
  router.add("POST", "/v1/chat/completions", with(chat_completions));
  router.add("POST", "/v1/completions", with(completions));
}

}  // namespace mlxr::openai
