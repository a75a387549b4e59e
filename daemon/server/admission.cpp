#include "daemon/server/admission.h"

#include <algorithm>

#include "daemon/config/settings.h"
#include "daemon/server/auth/authenticate.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {

void admit(Exchange& exchange, Services& services, Access access) {
  if (access == Access::kOpen) {
    return;
  }
  const ServerConfig& config = services.config;
  const bool required = config.require_api_key || !is_loopback_address(config.host);
  exchange.caller = authenticate(exchange.request(), services.keys, required);
  exchange.record.key = exchange.caller.key_id;
  check_access(exchange.caller, access);
}

void require_unix_socket(const Exchange& exchange, const std::string& what) {
  if (!exchange.request().is_unix_socket) {
    throw RequestError({403, what + " is allowed over the Unix socket only",
                        "invalid_request_error", "", "unix_socket_only"});
  }
}

Turn::Turn(RateLimiter& limiter, const Exchange& exchange)
    : limiter_(limiter), exchange_(exchange) {
  limiter_.begin(exchange_.caller.key_id, RateLimiter::Clock::now());
}

Turn::~Turn() {
  const RequestRecord& record = exchange_.record;
  const int64_t read = std::max(record.prompt_tokens, 0) - std::max(record.cached_tokens, 0);
  limiter_.end(exchange_.caller.key_id, read + std::max(record.generated_tokens, 0),
               RateLimiter::Clock::now());
}

}  // namespace mlxr
