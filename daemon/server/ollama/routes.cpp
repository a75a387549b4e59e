#include "daemon/server/ollama/routes.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/server/answer.h"
#include "daemon/server/auth/authenticate.h"
#include "daemon/server/chat_prompt.h"
#include "daemon/server/created.h"
#include "daemon/server/fill_in.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/answer_format.h"
#include "daemon/server/ollama/create.h"
#include "daemon/server/ollama/embed.h"
#include "daemon/server/ollama/model_json.h"
#include "daemon/server/ollama/requests.h"
#include "daemon/server/send_json.h"

namespace mlxr::ollama {
namespace {

using Clock = std::chrono::steady_clock;

// The version of Ollama whose API this is: what later ones added is not all here.
constexpr const char* kApiLevel = "0.12.6";

FormatOptions named(const std::string& model) {
  FormatOptions options;
  options.model = model;
  return options;
}

KeptStream stream_of(Exchange& exchange, const AnswerFormat& format) {
  return {exchange, format.content_type(), format.ping()};
}

// The model of a request, and how long it took to have it.
struct Loaded {
  std::shared_ptr<ServedModel> model;
  FormatOptions format;
};

// `stream`: kept alive until the model is there; null: the client asked for none.
Task<Loaded> load(Services& services, Exchange& exchange, const ChatRequest& request,
                  std::string shown_name, KeptStream* stream) {
  Loaded loaded;
  loaded.format.model = std::move(shown_name);
  loaded.model = co_await services.acquire(exchange, request.chat.options.model,
                                           request.chat.options.timeout, stream);
  loaded.format.load_time = Clock::now() - loaded.format.began;
  loaded.format.show_thinking = request.think.value_or(true);
  loaded.format.with_logprobs = request.chat.n_logprobs >= 0;
  loaded.format.tokenizer = loaded.model->model().tokenizer;
  exchange.record.model = loaded.model->name();
  // The time counts from the end of the answer. Who may not unload a model cannot give it one
  // either: others use it too.
  if (exchange.caller.scopes.admin && request.keep_alive) {
    services.models.keep_alive(loaded.model->name(), *request.keep_alive);
  }
  co_return loaded;
}

// An empty request loads the model, or unloads it at once.
Task<void> load_only(Services& services, Exchange& exchange, const ChatRequest& request, bool chat,
                     std::string shown_name) {
  const bool unloads = request.keep_alive && request.keep_alive->count() == 0;
  if (unloads) {
    check_access(exchange.caller, Access::kAdmin);
    co_await services.run_on(services.loads, [&] {
      return services.models.unload(services.models.find_in_memory(request.chat.options.model));
    });
  } else {
    co_await load(services, exchange, request, shown_name, nullptr);
  }
  co_await send_json(exchange, load_body(shown_name, chat, unloads ? "unload" : "load"));
}

void check_abilities(const Model& model, const ChatRequest& request) {
  const AnswerSyntax syntax = answer_syntax(model);
  if (!request.chat.tools.is_null() && syntax.tools == ToolFormat::kNone) {
    throw bad_field("tools", "this model does not support tools");
  }
  const bool thinks = syntax.reasoning || syntax.tools == ToolFormat::kHarmony;
  if (request.think.value_or(false) && !thinks) {
    throw bad_field("think", "this model does not support thinking");
  }
}

std::string shown_model(const std::string& body) {
  return read_model(Fields(parse_json_object(body)));
}

Task<void> chat(Services& services, Exchange& exchange) {
  const std::string& body = exchange.request().body;
  ChatRequest request =
      co_await services.run_on(services.work, [&body] { return read_chat_request(body); });
  const std::string name = shown_model(body);
  if (request.loads_only) {
    co_await load_only(services, exchange, request, true, name);
    co_return;
  }
  KeptStream stream = stream_of(exchange, *chat_format(named(name)));
  Loaded loaded = co_await load(services, exchange, request, name,
                                request.chat.options.stream ? &stream : nullptr);
  AnswerOptions options{request.chat.options.stream, 1, {}};
  Generation generation(services, exchange, loaded.model);
  co_await services.run_on(services.work, [&] {
    const Model& model = loaded.model->model();
    request.chat = with_created(services, loaded.model->name(), std::move(request.chat));
    check_abilities(model, request);
    const ChatPrompt prompt = fitting_chat_prompt(services, *loaded.model, request.chat, exchange);
    options.rules = prompt.rules;
    submit_chat(generation, request.chat, prompt);
    return true;
  });
  const auto format = chat_format(std::move(loaded.format));
  co_await send_answer(exchange, services, generation, *format, options);
}

void check_context(const std::vector<int32_t>& context, const Model& model) {
  for (const int32_t token : context) {
    if (token >= model.facts.vocab_size) {
      throw bad_field("context", "\"context\" names token " + std::to_string(token) +
                                     ", which this model does not have");
    }
  }
}

// Nothing that was sent is left out in silence.
void tell_dropped(Exchange& exchange, size_t dropped, size_t all) {
  if (dropped == 0) return;
  spdlog::info("request id={} truncated: {} of {} prompt tokens dropped", exchange.record.id,
               dropped, all);
  exchange.extra_headers.emplace_back("x-mlxr-truncated-tokens", std::to_string(dropped));
}

ChatPrompt generate_prompt(Services& services, const ServedModel& served,
                           const GenerateRequest& request, Exchange& exchange) {
  const Model& model = served.model();
  const openai::RequestOptions& options = request.base.chat.options;
  ChatPrompt prompt;
  if (!request.suffix.empty()) {
    prompt.tokens = fill_in_prompt(model, request.prompt, request.suffix);
  } else if (request.raw || !model.chat_template) {
    prompt.tokens = services.prompts.raw(model, request.prompt);
  } else {
    check_abilities(model, request.base);
    prompt = fitting_chat_prompt(services, served, request.base.chat, exchange);
  }
  prompt.rules.stop = options.stop;
  prompt.rules.tokenizer = model.tokenizer;
  prompt.rules.place_tokens = true;
  check_context(request.context, model);
  prompt.tokens.insert(prompt.tokens.begin(), request.context.begin(), request.context.end());
  if (!prompt.shift || !request.context.empty()) {
    prompt.shift = context_shift(served, options,
                                 [&] { return services.prompts.opening(model, prompt.tokens); });
  }
  if (prompt.shift && !request.context.empty()) {
    const size_t before = prompt.tokens.size();
    shift_prompt(prompt.tokens, *prompt.shift, served.scheduler().context_length());
    tell_dropped(exchange, before - prompt.tokens.size(), before);
  }
  return prompt;
}

Task<void> generate(Services& services, Exchange& exchange) {
  const std::string& body = exchange.request().body;
  GenerateRequest request =
      co_await services.run_on(services.work, [&body] { return read_generate_request(body); });
  const std::string name = shown_model(body);
  if (request.base.loads_only) {
    co_await load_only(services, exchange, request.base, false, name);
    co_return;
  }
  KeptStream stream = stream_of(exchange, *generate_format(named(name)));
  Loaded loaded = co_await load(services, exchange, request.base, name,
                                request.base.chat.options.stream ? &stream : nullptr);
  AnswerOptions options{request.base.chat.options.stream, 1, {}};
  Generation generation(services, exchange, loaded.model);
  co_await services.run_on(services.work, [&] {
    openai::ChatRequest& chat = request.base.chat;
    // The context has them already.
    const auto messages =
        request.context.empty() ? CreatedMessages::kInserted : CreatedMessages::kLeftOut;
    chat = with_created(services, loaded.model->name(), std::move(chat), messages);
    ChatPrompt prompt = generate_prompt(services, *loaded.model, request, exchange);
    options.rules = prompt.rules;
    submit_chat(generation, request.base.chat, prompt);
    if (!request.raw) {
      loaded.format.prompt = std::move(prompt.tokens);
    }
    return true;
  });
  const auto format = generate_format(std::move(loaded.format));
  co_await send_answer(exchange, services, generation, *format, options);
}

Task<void> tags(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(services.work, [&services] { return tags_body(services); });
  co_await send_json(exchange, std::move(body));
}

Task<void> ps(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(services.work, [&services] { return ps_body(services); });
  co_await send_json(exchange, std::move(body));
}

Task<void> show(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(services.loads, [&services, &exchange] {
    return show_body(services, shown_model(exchange.request().body));
  });
  co_await send_json(exchange, std::move(body));
}

// Clients take "version" for Ollama's and refuse one that they think too old for what they use.
Json version_body(const Services& services) {
  return {{"version", kApiLevel}, {"mlxr", services.version}};
}

Task<void> version(Services& services, Exchange& exchange) {
  co_await send_json(exchange, version_body(services));
}

Response running() { return {200, "text/plain; charset=utf-8", "Ollama is running", {}}; }

Task<void> root(Services&, Exchange& exchange) { co_await exchange.respond(running()); }

// What clients may ask and this daemon cannot do yet, with what to do instead.
struct Missing {
  const char* method;
  const char* path;
  const char* message;
  Access access = Access::kAdmin;
};
constexpr Missing kMissing[] = {
    {"POST", "/api/pull",
     "pulling models is not supported yet; put the file into a model folder, or upload it "
     "(/api/blobs) and create a model from it"},
    {"POST", "/api/push", "pushing models is not supported"},
};

ApiError not_implemented(const std::string& message) {
  return {501, message, "not_implemented_error", "", "not_implemented"};
}

}  // namespace

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"GET", "/", Access::kOpen, "Say that the server runs", {"", "", "text/plain"}},
             with(root));
  router.add(
      {"GET", "/api/version", Access::kInference, "The server's version", {"", "OllamaVersion"}},
      with(version));
  router.add({"GET", "/api/tags", Access::kInference, "List the models", {"", "OllamaTags"}},
             with(tags));
  router.add({"GET", "/api/ps", Access::kInference, "List the loaded models", {"", "OllamaPs"}},
             with(ps));
  router.add(
      {"POST", "/api/show", Access::kInference, "One model", {"OllamaShowRequest", "OllamaShow"}},
      with(show));
  router.add({"POST",
              "/api/chat",
              Access::kInference,
              "Answer a conversation",
              {"OllamaChatRequest", "OllamaChat", "application/x-ndjson"}},
             with(chat));
  router.add({"POST",
              "/api/generate",
              Access::kInference,
              "Answer a prompt",
              {"OllamaGenerateRequest", "OllamaGenerate", "application/x-ndjson"}},
             with(generate));
  add_embed_routes(router, services);
  add_create_routes(router, services);
  for (const Missing& missing : kMissing) {
    router.add(
        {missing.method, missing.path, missing.access, std::string("Not here: ") + missing.message},
        [message = missing.message](Exchange&) -> Task<void> {
          throw RequestError(not_implemented(message));
        });
  }
}

}  // namespace mlxr::ollama
