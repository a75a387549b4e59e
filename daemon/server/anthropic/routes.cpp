#include "daemon/server/anthropic/routes.h"

#include <algorithm>

#include "daemon/server/answer.h"
#include "daemon/server/anthropic/answer_format.h"
#include "daemon/server/anthropic/request.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/http/kept_stream.h"

namespace mlxr::anthropic {
namespace {

// Anthropic's clients ask for several of its models by name, some behind the user's back. Where the
// catalogue has no such model they all mean the default one, so that nothing is loaded twice.
std::string served_name(const Services& services, const std::string& name) {
  if (!name.starts_with("claude-")) {
    return name;
  }
  return look_up(services.models.list(), name) != nullptr ? name : "";
}

Task<MessagesRequest> read(Services& services, Exchange& exchange, bool counting) {
  co_return co_await services.run_on(services.work, [&services, &exchange, counting] {
    MessagesRequest request = read_messages_request(exchange.request().body, counting);
    request.chat.options.model = served_name(services, request.chat.options.model);
    return request;
  });
}

Task<void> messages(Services& services, Exchange& exchange) {
  MessagesRequest request = co_await read(services, exchange, false);
  KeptStream stream(exchange, kEventStreamType, message_format(FormatOptions())->ping());
  Generation generation(services, exchange,
                        co_await services.acquire(exchange, request.chat.options, stream));
  exchange.record.model = generation.model().name();
  AnswerOptions options{request.chat.options.stream, 1, {}};
  FormatOptions format_options{generation.model().name(), 0, request.show_thinking,
                               exchange.record.id};
  co_await services.run_on(services.work, [&] {
    request.chat = with_created(services, generation.model().name(), std::move(request.chat));
    const ChatPrompt prompt =
        fitting_chat_prompt(services, generation.model(), request.chat, exchange);
    options.rules = prompt.rules;
    options.rules.call_id_prefix = "toolu_";
    format_options.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
    submit_chat(generation, request.chat, prompt);
    return true;
  });
  const auto format = message_format(format_options);
  co_await send_answer(exchange, services, generation, *format, options);
}

Json count(Services& services, const ServedModel& model, const MessagesRequest& request) {
  const openai::ChatRequest chat = with_created(services, model.name(), request.chat);
  return {{"input_tokens", build_chat_prompt(services, model.model(), chat).tokens.size()}};
}

Task<void> count_tokens(Services& services, Exchange& exchange) {
  const MessagesRequest request = co_await read(services, exchange, true);
  const auto model = co_await services.acquire(exchange, request.chat.options.model);
  exchange.record.model = model->name();
  Response response;
  response.body = co_await services.run_on(
      services.work, [&] { return to_text(count(services, *model, request)); });
  co_await exchange.respond(std::move(response));
}

}  // namespace

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"POST",
              "/v1/messages",
              Access::kInference,
              "Answer a conversation",
              {"MessagesRequest", "Message", kEventStreamType}},
             with(messages));
  router.add({"POST",
              "/v1/messages/count_tokens",
              Access::kInference,
              "Count a conversation's tokens",
              {"CountTokensRequest", "TokenCount"}},
             with(count_tokens));
}

}  // namespace mlxr::anthropic
