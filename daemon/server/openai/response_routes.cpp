#include "daemon/server/openai/response_routes.h"

#include "daemon/server/answer.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/openai/input_items.h"
#include "daemon/server/openai/response_format.h"
#include "daemon/server/openai/response_request.h"
#include "daemon/server/prompt_overflow.h"
#include "daemon/server/random_id.h"

namespace mlxr::openai {
namespace {

ApiError no_such_response(const std::string& id) {
  return {404,
          "there is no stored response \"" + id +
              "\": it was not stored, was deleted, or made room for newer ones "
              "(setting response_store_bytes)",
          "invalid_request_error", "", "response_not_found"};
}

Json conversation_of(Services& services, const std::string& owner, const std::string& id) {
  const auto stored = services.responses.find(owner, id);
  if (!stored) {
    ApiError error = no_such_response(id);
    error.status = 400;
    error.param = "previous_response_id";
    error.code = "previous_response_not_found";
    throw RequestError(error);
  }
  return Json::parse(stored->conversation);
}

// What the answer says of sampling is what was done.
void show_sampling(const ServedModel& model, ResponseRequest& request) {
  const SamplingParams sampling = sampling_for(model, request.chat.body);
  request.shown["temperature"] = short_number(sampling.temperature);
  request.shown["top_p"] = short_number(sampling.top_p);
  request.shown["service_tier"] = "default";
}

void store(Services& services, const std::string& owner, const ResponseRequest& request,
           const Json& response) {
  Json conversation = request.conversation;
  const Json& output = response["output"];
  conversation.insert(conversation.end(), output.begin(), output.end());
  services.responses.put(owner, response["id"].get<std::string>(),
                         {to_text(response), to_text(conversation), to_text(request.input)});
}

ResponseOptions response_options(Services& services, const std::string& owner,
                                 const ServedModel& model, const ResponseRequest& request) {
  ResponseOptions options{random_id("resp_"),      model.name(),
                          request.shown,           request.with_logprobs,
                          model.model().tokenizer, nullptr};
  if (request.store) {
    options.keep = [&services, owner, &request](const Json& response) {
      store(services, owner, request, response);
    };
  }
  return options;
}

// A prompt that is too long is blamed on the field that the client knows.
void submit(Services& services, Exchange& exchange, Generation& generation,
            ResponseRequest& request, AnswerRules& rules) {
  try {
    request.chat = with_created(services, generation.model().name(), std::move(request.chat));
    blame_text_format(request);
    const ServedModel& model = generation.model();
    const ChatPrompt prompt = fitting_chat_prompt(services, model, request.chat, exchange);
    const bool truncates = request.chat.truncate.value_or(model.truncates());
    request.shown["truncation"] = truncates ? "auto" : "disabled";
    rules = prompt.rules;
    submit_chat(generation, request.chat, prompt);
    show_sampling(model, request);
  } catch (const Error& error) {
    rethrow_blaming(error, "input", services.draining);
  }
}

Task<ResponseRequest> read(Services& services, Exchange& exchange) {
  co_return co_await services.run_on(services.work, [&services, &exchange] {
    return read_response_request(exchange.request().body, [&](const std::string& id) {
      return conversation_of(services, exchange.caller.key_id, id);
    });
  });
}

Task<void> create(Services& services, Exchange& exchange) {
  const std::string owner = exchange.caller.key_id;
  ResponseRequest request = co_await read(services, exchange);
  KeptStream stream(exchange, kEventStreamType, kEventStreamPing);
  Generation generation(services, exchange,
                        co_await services.acquire(exchange, request.chat.options, stream));
  exchange.record.model = generation.model().name();
  AnswerOptions options{request.chat.options.stream, 1, {}};
  co_await services.run_on(services.work, [&] {
    submit(services, exchange, generation, request, options.rules);
    return true;
  });
  const auto format =
      response_format(response_options(services, owner, generation.model(), request));
  co_await send_answer(exchange, services, generation, *format, options);
}

const std::string& id_of(const Exchange& exchange) {
  return exchange.request().path_values.at("id");
}

StoredResponse find(Services& services, const Exchange& exchange) {
  auto stored = services.responses.find(exchange.caller.key_id, id_of(exchange));
  if (!stored) {
    throw RequestError(no_such_response(id_of(exchange)));
  }
  return std::move(*stored);
}

Task<void> show(Services& services, Exchange& exchange) {
  Response response;
  response.body = find(services, exchange).response;
  co_await exchange.respond(std::move(response));
}

Task<void> show_input(Services& services, Exchange& exchange) {
  const ItemsQuery query = read_items_query(exchange.request().query);
  Response response;
  response.body = to_text(page_of_items(Json::parse(find(services, exchange).input), query));
  co_await exchange.respond(std::move(response));
}

Json token_count(Services& services, const ServedModel& model, const ResponseRequest& request) {
  const ChatRequest chat = with_created(services, model.name(), request.chat);
  return {{"object", "response.input_tokens"},
          {"input_tokens", build_chat_prompt(services, model.model(), chat).tokens.size()}};
}

Task<void> count_input(Services& services, Exchange& exchange) {
  const ResponseRequest request = co_await read(services, exchange);
  const auto model =
      co_await services.acquire(exchange, request.chat.options.model, request.chat.options.timeout);
  exchange.record.model = model->name();
  Response response;
  response.body = co_await services.run_on(
      services.work, [&] { return to_text(token_count(services, *model, request)); });
  co_await exchange.respond(std::move(response));
}

Json deleted_body(const std::string& id) {
  return {{"id", id}, {"object", "response"}, {"deleted", true}};
}

Task<void> erase(Services& services, Exchange& exchange) {
  if (!services.responses.erase(exchange.caller.key_id, id_of(exchange))) {
    throw RequestError(no_such_response(id_of(exchange)));
  }
  Response response;
  response.body = to_text(deleted_body(id_of(exchange)));
  co_await exchange.respond(std::move(response));
}

}  // namespace

void add_response_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"POST",
              "/v1/responses",
              Access::kInference,
              "Answer a conversation of items",
              {"ResponseRequest", "Response", kEventStreamType}},
             with(create));
  router.add(
      {"GET", "/v1/responses/{id}", Access::kInference, "A stored response", {"", "Response"}},
      with(show));
  router.add({"GET",
              "/v1/responses/{id}/input_items",
              Access::kInference,
              "What a stored response answers",
              {"", "InputItems"},
              false,
              "InputItemsQuery"},
             with(show_input));
  router.add({"POST",
              "/v1/responses/input_tokens",
              Access::kInference,
              "Count the tokens of a conversation of items",
              {"ResponseRequest", "InputTokens"}},
             with(count_input));
  router.add({"DELETE",
              "/v1/responses/{id}",
              Access::kInference,
              "Forget a stored response",
              {"", "ResponseDeleted"}},
             with(erase));
}

}  // namespace mlxr::openai
