#include "daemon/server/ollama/embed.h"

#include "daemon/server/auth/authenticate.h"
#include "daemon/server/ollama/embed_request.h"
#include "daemon/server/ollama/requests.h"
#include "daemon/server/send_json.h"

namespace mlxr::ollama {
namespace {

using Clock = std::chrono::steady_clock;

Json embed_body(const Embeddings& embeddings, const std::string& model) {
  Json vectors = Json::array();
  for (const std::vector<float>& vector : embeddings.vectors) {
    Json numbers = Json::array();
    for (const float number : vector) {
      numbers.push_back(short_number(number));
    }
    vectors.push_back(std::move(numbers));
  }
  Json body;
  body["model"] = model;
  body["embeddings"] = std::move(vectors);
  return body;
}

int64_t nanoseconds(Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// What the model gives, and how long it took to have it; nothing when the client went.
struct Embedded {
  Embeddings embeddings;
  Clock::duration load_time{0};
};

// What a request without texts and with no time to live asks for.
Task<void> unload(Services& services, Exchange& exchange, const std::string& model) {
  check_access(exchange.caller, Access::kAdmin);
  co_await services.run_on(services.loads, [&] {
    return services.models.unload(services.models.find_in_memory(model));
  });
}

Task<std::optional<Embedded>> run(Services& services, Exchange& exchange,
                                  const OllamaEmbedRequest& request) {
  const auto began = Clock::now();
  const bool empty = request.embed.texts.empty();
  if (empty && request.keep_alive && request.keep_alive->count() == 0) {
    co_await unload(services, exchange, request.embed.options.model);
    co_return Embedded{};
  }
  const std::shared_ptr<ServedModel> model = co_await services.acquire(
      exchange, request.embed.options.model, request.embed.options.timeout);
  Embedded out;
  out.load_time = Clock::now() - began;
  exchange.record.model = model->name();
  // The time counts from the end of the answer.
  if (request.keep_alive && exchange.caller.scopes.admin) {
    services.models.keep_alive(model->name(), *request.keep_alive);
  }
  if (!empty) {
    auto embeddings = co_await embed(services, exchange, model, request.embed);
    if (!embeddings) {
      co_return std::nullopt;
    }
    out.embeddings = std::move(*embeddings);
  }
  co_return out;
}

Task<void> embed_texts(Services& services, Exchange& exchange) {
  const auto began = Clock::now();
  const std::string& text = exchange.request().body;
  const OllamaEmbedRequest request =
      co_await services.run_on(services.work, [&text] { return read_embed_request(text, false); });
  const auto embedded = co_await run(services, exchange, request);
  if (!embedded) {
    co_return;
  }
  Json body = embed_body(embedded->embeddings, read_model(Fields(parse_json_object(text))));
  body["total_duration"] = nanoseconds(Clock::now() - began);
  body["load_duration"] = nanoseconds(embedded->load_time);
  body["prompt_eval_count"] = embedded->embeddings.tokens;
  co_await send_json(exchange, body);
}

Task<void> embed_prompt(Services& services, Exchange& exchange) {
  const std::string& text = exchange.request().body;
  const OllamaEmbedRequest request =
      co_await services.run_on(services.work, [&text] { return read_embed_request(text, true); });
  const auto embedded = co_await run(services, exchange, request);
  if (!embedded) {
    co_return;
  }
  const Json vectors = embed_body(embedded->embeddings, "")["embeddings"];
  Json body;
  body["embedding"] = vectors.empty() ? Json::array() : vectors.front();
  co_await send_json(exchange, body);
}

}  // namespace

void add_embed_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"POST",
              "/api/embed",
              Access::kInference,
              "Vectors of texts",
              {"OllamaEmbedRequest", "OllamaEmbeddings"}},
             with(embed_texts));
  router.add({"POST",
              "/api/embeddings",
              Access::kInference,
              "The vector of a text",
              {"OllamaEmbeddingRequest", "OllamaEmbedding"}},
             with(embed_prompt));
}

}  // namespace mlxr::ollama
