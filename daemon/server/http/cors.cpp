#include "daemon/server/http/cors.h"

#include "daemon/config/value_text.h"

namespace mlxr {
namespace {

// Seconds for which a browser need not ask again.
constexpr const char* kMaxAge = "600";

}  // namespace

std::vector<std::pair<std::string, std::string>> cors_headers(const Request& request) {
  const std::string_view origin = request.header("origin");
  if (origin.empty()) {
    return {};
  }
  // The origin itself and not "*": the answer depends on who asks, which caches must know.
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers",
           "X-Request-Id, request-id, Retry-After, x-mlxr-truncated-messages, "
           "x-mlxr-truncated-tokens"},
          {"Vary", "Origin"}};
}

Response options_response(const Request& request, std::vector<std::string> allowed) {
  allowed.emplace_back("OPTIONS");
  const std::string methods = join(allowed, ", ");
  Response response{200, "text/plain", "", {{"Allow", methods}}};
  if (!request.header("origin").empty() &&
      !request.header("access-control-request-method").empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", methods);
    response.headers.emplace_back("Access-Control-Max-Age", kMaxAge);
    const std::string_view headers = request.header("access-control-request-headers");
    if (!headers.empty()) {
      response.headers.emplace_back("Access-Control-Allow-Headers", std::string(headers));
    }
  }
  return response;
}

}  // namespace mlxr
