#include "daemon/server/api.h"

#include <spdlog/spdlog.h>

#include <optional>

#include "daemon/config/settings.h"
#include "daemon/config/value_text.h"
#include "daemon/server/admission.h"
#include "daemon/server/anthropic/answer_format.h"
#include "daemon/server/anthropic/routes.h"
#include "daemon/server/docs_page.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/http/cors.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/native/routes.h"
#include "daemon/server/ollama/answer_format.h"
#include "daemon/server/ollama/routes.h"
#include "daemon/server/openai/routes.h"
#include "daemon/server/openapi.h"

namespace mlxr {
namespace {

constexpr int kClientClosedRequest = 499;  // nginx's number; seen in logs only

ApiError no_such_path(const Request& request) {
  return {404, "there is no " + request.method + " " + request.path + " here",
          "invalid_request_error", "", "unknown_url"};
}

HostRules host_rules(const ServerConfig& config) {
  return {config.allowed_hosts, !is_loopback_address(config.host), config.allowed_origins};
}

void check_host(const Request& request, const HostRules& rules) {
  if (const auto refusal = refuse_foreign_host(request, rules)) {
    throw RequestError({403, *refusal, "invalid_request_error", "", "forbidden_host"});
  }
}

// The API that a request means, by its path.
bool is_ollama(const Request& request) { return request.path.starts_with("/api/"); }
bool is_anthropic(const Request& request) {
  return request.path == "/v1/messages" || request.path.starts_with("/v1/messages/") ||
         !request.header("anthropic-version").empty();
}

std::string error_body(const Exchange& exchange, const ApiError& error) {
  if (is_ollama(exchange.request())) {
    return to_text(ollama::error_body(error));
  }
  return is_anthropic(exchange.request())
             ? to_text(anthropic::error_body(error, exchange.record.id))
             : to_json(error);
}

// As a piece of a stream that has begun.
std::string error_piece(const Exchange& exchange, const ApiError& error) {
  const std::string body = error_body(exchange, error);
  if (is_ollama(exchange.request())) {
    return body + "\n";
  }
  return sse_event(body, is_anthropic(exchange.request()) ? "error" : "");
}

Response error_response(const Exchange& exchange, const ApiError& error) {
  Response response = to_response(error);
  response.body = error_body(exchange, error);
  return response;
}

Response wrong_method(const Exchange& exchange, const std::vector<std::string>& allowed) {
  const Request& request = exchange.request();
  const std::string methods = join(allowed, ", ");
  Response response = error_response(
      exchange, {405, request.path + " does not take " + request.method + "; use " + methods,
                 "invalid_request_error", "", "method_not_allowed"});
  response.headers.emplace_back("Allow", methods);
  return response;
}

// Anthropic's clients read it under this name.
void add_request_id(Exchange& exchange) {
  if (is_anthropic(exchange.request())) {
    exchange.extra_headers.emplace_back("request-id", exchange.record.id);
  }
}

void add_cors(Exchange& exchange) {
  for (auto& header : cors_headers(exchange.request())) {
    exchange.extra_headers.push_back(std::move(header));
  }
}

Task<void> send_failure(Exchange& exchange, ApiError error) {
  if (error.status >= 500) {
    spdlog::error("request id={} failed: {}", exchange.record.id, error.message);
  }
  if (exchange.started()) {
    co_await exchange.write(error_piece(exchange, error));
  } else {
    co_await exchange.respond(error_response(exchange, error));
  }
}

}  // namespace

Api::Api(Services& services) : services_(services), host_rules_(host_rules(services.config)) {
  native::add_routes(router_, services);
  openai::add_routes(router_, services);
  ollama::add_routes(router_, services);
  anthropic::add_routes(router_, services);
  router_.add({"GET", "/openapi.json", Access::kOpen, "This description"},
              [this](Exchange& exchange) { return describe(exchange); });
  router_.add(
      {"GET", "/docs", Access::kOpen, "This description, for people", {"", "", "text/html"}},
      [](Exchange& exchange) { return exchange.respond(docs_page()); });
}

Task<void> Api::describe(Exchange& exchange) {
  Response response;
  response.body = to_text(openapi_document(router_.table(), services_.version, all_schemas()));
  co_await exchange.respond(std::move(response));
}

Task<void> Api::handle(Exchange& exchange) {
  const auto began = std::chrono::steady_clock::now();
  std::exception_ptr failure;
  try {
    co_await dispatch(exchange);
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    co_await send_failure(exchange, to_api_error(failure, services_.draining));
  }
  if (exchange.disconnected() && !exchange.started()) {
    exchange.record.status = kClientClosedRequest;
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  exchange.record.milliseconds = took.count();
  services_.requests.add(exchange.record);
  log_request(exchange.record);
}

Task<void> Api::dispatch(Exchange& exchange) {
  Request& request = exchange.mutable_request();
  exchange.record.route = request.method + " -";
  add_request_id(exchange);
  check_host(request, host_rules_);
  add_cors(exchange);
  const Router::Match match = router_.match(request);
  if (match.handler == nullptr && match.allowed.empty()) {
    throw RequestError(no_such_path(request));
  }
  exchange.record.route = request.method + " " + match.pattern;
  if (request.method == "OPTIONS") {
    co_await exchange.respond(options_response(request, match.allowed));
    co_return;
  }
  if (match.handler == nullptr) {
    co_await exchange.respond(wrong_method(exchange, match.allowed));
    co_return;
  }
  admit(exchange, services_, match.access);
  std::optional<Turn> turn;
  if (match.access == Access::kInference && request.method == "POST") {
    turn.emplace(services_.limiter, exchange);
  }
  if (match.reads_body_itself || co_await exchange.read_body()) {
    co_await (*match.handler)(exchange);
  }
}

}  // namespace mlxr
