#include "daemon/server/native/routes.h"

#include <unistd.h>

#include "daemon/server/http/api_error.h"
#include "daemon/server/native/model_json.h"

namespace mlxr::native {
namespace {

Task<void> send(Exchange& exchange, Json body, int status = 200) {
  Response response;
  response.status = status;
  response.body = to_text(body);
  co_await exchange.respond(std::move(response));
}

void require_unix_socket(const Exchange& exchange, const std::string& what) {
  if (!exchange.request().is_unix_socket) {
    throw RequestError({403, what + " is allowed over the Unix socket only",
                        "invalid_request_error", "", "unix_socket_only"});
  }
}

// g++ 12 cannot compile braced lists inside coroutines: bodies are made in plain functions.
Json health_body(const Services& services) {
  return {{"status", services.draining ? "shutting down" : "ok"},
          {"version", services.version},
          {"pid", ::getpid()}};
}

Task<void> health(Services& services, Exchange& exchange) {
  co_await send(exchange, health_body(services), services.draining ? 503 : 200);
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
  co_await send(exchange, std::move(body));
}

Task<void> show_model(Services& services, Exchange& exchange) {
  const std::string name = exchange.request().path_values.at("name");
  Json body =
      co_await services.run_on(services.loads, [&] { return model_details(services, name); });
  co_await send(exchange, std::move(body));
}

Json loaded_body(const Services& services) {
  Json models = Json::array();
  for (const LoadedModelInfo& model : services.models.loaded()) {
    models.push_back(loaded_model(model));
  }
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - services.started;
  return {{"models", std::move(models)},
          {"pid", ::getpid()},
          {"uptime_seconds", uptime.count()},
          {"version", services.version}};
}

Task<void> list_loaded(Services& services, Exchange& exchange) {
  co_await send(exchange, loaded_body(services));
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
  require_unix_socket(exchange, "loading a model by its path");
  if (!std::filesystem::path(*path).is_absolute()) {
    throw bad_field("path", "\"path\" must be an absolute path, not \"" + *path + "\"");
  }
  return services.models.add_path(*path).name;
}

Task<void> load(Services& services, Exchange& exchange) {
  const std::string name =
      co_await services.run_on(services.work, [&] { return name_to_load(services, exchange); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(name);
  exchange.record.model = model->name();
  co_await send(exchange, loaded_model(model->info()));
}

Json unload_named(Services& services, const std::string& request_body) {
  const Json request = parse_json_object(request_body);
  const std::string name = services.models.find(required_name(Fields(request))).name;
  const bool unloaded = services.models.unload(name);
  return {{"name", name}, {"unloaded", unloaded}};
}

Task<void> unload(Services& services, Exchange& exchange) {
  Json body = co_await services.run_on(
      services.loads, [&] { return unload_named(services, exchange.request().body); });
  co_await send(exchange, std::move(body));
}

Json shutdown_body() { return {{"status", "shutting down"}}; }

Task<void> shut_down(Services& services, Exchange& exchange) {
  require_unix_socket(exchange, "shutting the daemon down");
  co_await send(exchange, shutdown_body(), 202);
  services.request_shutdown();
}

}  // namespace

void add_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add("GET", "/health", with(health));
  router.add("GET", "/mlxr/v1/models", with(list_models));
  router.add("GET", "/mlxr/v1/models/{name...}", with(show_model));
  router.add("GET", "/mlxr/v1/ps", with(list_loaded));
  router.add("POST", "/mlxr/v1/load", with(load));
  router.add("POST", "/mlxr/v1/unload", with(unload));
  router.add("POST", "/mlxr/v1/shutdown", with(shut_down));
}

}  // namespace mlxr::native
