#include "daemon/server/native/routes.h"

#include <unistd.h>

#include "daemon/server/admission.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/native/adapter_routes.h"
#include "daemon/server/native/metrics.h"
#include "daemon/server/native/model_json.h"
#include "daemon/server/native/rerank.h"
#include "daemon/server/native/tokenize.h"
#include "daemon/server/native/trace_json.h"
#include "daemon/server/send_json.h"

namespace mlxr::native {
namespace {

// g++ 12 cannot compile braced lists inside coroutines: bodies are made in plain functions.
Json health_body(const Services& services) {
  return {{"status", services.draining ? "shutting down" : "ok"},
          {"version", services.version},
          {"pid", ::getpid()}};
}

Task<void> health(Services& services, Exchange& exchange) {
  co_await send_json(exchange, health_body(services), services.draining ? 503 : 200);
}

Json models_body(Services& services) {
  Json models = Json::array();
  for (const ModelEntry& entry : services.models.list()) {
    models.push_back(model_summary(services, entry));
  }
  Json body;
  body["models"] = std::move(models);
  return body;
}

Task<void> list_models(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(services.work, [&] { return models_body(services); });
  co_await send_json(exchange, std::move(body));
}

Task<void> show_model(Services& services, Exchange& exchange) {
  const std::string name = exchange.request().path_values.at("name");
  Json body =
      co_await services.run_on(services.loads, [&] { return model_details(services, name); });
  co_await send_json(exchange, std::move(body));
}

Json loaded_body(const Services& services) {
  Json models = Json::array();
  for (const LoadedModelInfo& model : services.models.loaded()) {
    models.push_back(loaded_model(model));
  }
  return {{"models", std::move(models)},
          {"memory", memory_state(services.models.memory())},
          {"pid", ::getpid()},
          {"uptime_seconds", services.uptime_seconds()},
          {"version", services.version}};
}

Task<void> list_loaded(Services& services, Exchange& exchange) {
  co_await send_json(exchange, loaded_body(services));
}

Task<void> metrics(Services& services, Exchange& exchange) {
  Response response;
  response.content_type = kMetricsContentType;
  response.body = metrics_text(services);
  co_await exchange.respond(std::move(response));
}

std::string trace_text(const Services& services, const Request& request) {
  if (!services.trace || !services.trace->on()) {
    throw RequestError({404, "nothing is traced (setting trace_events is 0)",
                        "invalid_request_error", "", "trace_off"});
  }
  const auto name = request.query.find("request");
  return to_text(
      chrome_trace(services.trace->snapshot(), name == request.query.end() ? "" : name->second));
}

Task<void> trace(Services& services, Exchange& exchange) {
  Response response;
  response.body = co_await services.run_on(
      services.work, [&] { return trace_text(services, exchange.request()); });
  co_await exchange.respond(std::move(response));
}

std::string required_name(const Fields& fields) {
  const auto name = fields.string("name");
  if (!name || name->empty()) {
    throw bad_field("name", "\"name\" is missing: it is the name of a model");
  }
  return *name;
}

// The name to load; a path is registered first.
std::string name_to_load(Services& services, const Exchange& exchange) {
  const Json body = parse_json_object(exchange.request().body);
  const Fields fields(body);
  const auto path = fields.string("path");
  if (!path) {
    return required_name(fields);
  }
  return add_path(services, exchange, *path);
}

Task<void> load(Services& services, Exchange& exchange) {
  const std::string name =
      co_await services.run_on(services.work, [&] { return name_to_load(services, exchange); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(exchange, name);
  exchange.record.model = model->name();
  co_await send_json(exchange, loaded_model(model->info()));
}

Json unload_named(Services& services, const std::string& request_body) {
  const Json request = parse_json_object(request_body);
  const std::string name = services.models.find_in_memory(required_name(Fields(request)));
  const bool unloaded = services.models.unload(name);
  return {{"name", name}, {"unloaded", unloaded}};
}

Task<void> unload(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(
      services.loads, [&] { return unload_named(services, exchange.request().body); });
  co_await send_json(exchange, std::move(body));
}

Task<void> tokenize_text(Services& services, Exchange& exchange) {
  const TokenizeRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_tokenize_request(exchange.request().body); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(
      exchange, request.chat ? request.chat->options.model : request.model);
  exchange.record.model = model->name();
  Json body =
      co_await services.run_on(services.work, [&] { return tokenize(services, *model, request); });
  co_await send_json(exchange, std::move(body));
}

Task<void> detokenize_ids(Services& services, Exchange& exchange) {
  const DetokenizeRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_detokenize_request(exchange.request().body); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(exchange, request.model);
  exchange.record.model = model->name();
  Json body = co_await services.run_on(services.work, [&] { return detokenize(*model, request); });
  co_await send_json(exchange, std::move(body));
}

Task<void> rank_documents(Services& services, Exchange& exchange) {
  const RerankBody request = co_await services.run_on(
      services.work, [&exchange] { return read_rerank_request(exchange.request().body); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(
      exchange, request.rerank.options.model, request.rerank.options.timeout);
  exchange.record.model = model->name();
  const auto ranking = co_await rerank(services, exchange, model, request.rerank);
  if (ranking) {
    co_await send_json(exchange, rerank_body(*ranking, request, exchange.record.id, model->name()));
  }
}

Json shutdown_body() { return {{"status", "shutting down"}}; }

Task<void> shut_down(Services& services, Exchange& exchange) {
  // On loopback everyone has every scope; ending the daemon takes a key, or the owner's socket.
  if (exchange.caller.key_id.empty()) {
    require_unix_socket(exchange, "shutting the daemon down without an API key");
  }
  co_await send_json(exchange, shutdown_body(), 202);
  services.request_shutdown();
}

}  // namespace

std::string add_path(Services& services, const Exchange& exchange, const std::string& path) {
  require_unix_socket(exchange, "loading a model by its path");
  if (!std::filesystem::path(path).is_absolute()) {
    throw bad_field("path", "\"path\" must be an absolute path, not \"" + path + "\"");
  }
  return services.models.add_path(path).name;
}

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"GET", "/health", Access::kOpen, "Whether the server answers", {"", "Health"}},
             with(health));
  router.add({"GET",
              "/metrics",
              Access::kInference,
              "What the loaded models count, for Prometheus",
              {"", "", "text/plain"}},
             with(metrics));
  router.add({"GET",
              "/mlxr/v1/trace",
              Access::kAdmin,
              "What requests and steps did lately, in Chrome's trace format",
              {"", "Trace"}},
             with(trace));
  router.add(
      {"GET", "/mlxr/v1/models", Access::kInference, "List the models", {"", "NativeModelList"}},
      with(list_models));
  router.add(
      {"GET", "/mlxr/v1/models/{name...}", Access::kInference, "One model", {"", "NativeModel"}},
      with(show_model));
  router.add(
      {"GET", "/mlxr/v1/ps", Access::kInference, "List the loaded models", {"", "LoadedModelList"}},
      with(list_loaded));
  router.add(
      {"POST", "/tokenize", Access::kInference, "A text's tokens", {"TokenizeRequest", "Tokens"}},
      with(tokenize_text));
  router.add({"POST",
              "/detokenize",
              Access::kInference,
              "The text of tokens",
              {"DetokenizeRequest", "Text"}},
             with(detokenize_ids));
  const RouteBodies ranking{"RerankRequest", "Ranking"};
  router.add({"POST", "/v1/rerank", Access::kInference, "Documents by their relevance", ranking},
             with(rank_documents));
  router.add({"POST", "/v2/rerank", Access::kInference, "The same, for Cohere's clients", ranking},
             with(rank_documents));
  router.add({"POST", "/rerank", Access::kInference, "The same, at its older address", ranking},
             with(rank_documents));
  router.add(
      {"POST", "/mlxr/v1/load", Access::kInference, "Load a model", {"LoadRequest", "LoadedModel"}},
      with(load));
  router.add(
      {"POST", "/mlxr/v1/unload", Access::kAdmin, "Unload a model", {"UnloadRequest", "Unloaded"}},
      with(unload));
  router.add({"POST", "/mlxr/v1/shutdown", Access::kAdmin, "End the daemon", {"", "Status"}},
             with(shut_down));
  add_adapter_routes(router, services);
}

}  // namespace mlxr::native
