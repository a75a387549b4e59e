#include "daemon/server/api.h"

#include <spdlog/spdlog.h>

#include "daemon/config/value_text.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/http/host_guard.h"
#include "daemon/server/http/sse.h"
#include "daemon/server/native/routes.h"
#include "daemon/server/openai/routes.h"

namespace mlxr {
namespace {

constexpr int kClientClosedRequest = 499;  // nginx's number; seen in logs only

ApiError no_such_path(const Request& request) {
  return {404, "there is no " + request.method + " " + request.path + " here",
          "invalid_request_error", "", "unknown_url"};
}

void check_host(const Request& request) {
  if (const auto refusal = refuse_foreign_host(request)) {
    throw RequestError({403, *refusal, "invalid_request_error", "", "forbidden_host"});
  }
}

Response wrong_method(const Request& request, const std::vector<std::string>& allowed) {
  const std::string methods = join(allowed, ", ");
  Response response =
      to_response({405, request.path + " does not take " + request.method + "; use " + methods,
                   "invalid_request_error", "", "method_not_allowed"});
  response.headers.emplace_back("Allow", methods);
  return response;
}

Task<void> send_failure(Exchange& exchange, ApiError error) {
  if (error.status >= 500) {
    spdlog::error("request id={} failed: {}", exchange.record.id, error.message);
  }
  if (exchange.started()) {
    co_await exchange.write(sse_event(to_json(error)));
  } else {
    co_await exchange.respond(to_response(error));
  }
}

}  // namespace

Api::Api(Services& services) : services_(services) {
  native::add_routes(router_, services);
  openai::add_routes(router_, services);
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
  log_request(exchange.record);
}

Task<void> Api::dispatch(Exchange& exchange) {
  Request& request = exchange.mutable_request();
  exchange.record.route = request.method + " -";
  check_host(request);
  const Router::Match match = router_.match(request);
  if (match.handler == nullptr && match.allowed.empty()) {
    throw RequestError(no_such_path(request));
  }
  exchange.record.route = request.method + " " + match.pattern;
  if (match.handler == nullptr) {
    co_await exchange.respond(wrong_method(request, match.allowed));
    co_return;
  }
  co_await (*match.handler)(exchange);
}

}  // namespace mlxr
