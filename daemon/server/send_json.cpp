#include "daemon/server/send_json.h"

#include <utility>

namespace mlxr {

Task<void> send_json(Exchange& exchange, Json body, int status) {
  Response response;
  response.status = status;
  if (status == 503) {
    response.headers.emplace_back("Retry-After", "1");
  }
  response.body = to_text(body);
  co_await exchange.respond(std::move(response));
}

}  // namespace mlxr
