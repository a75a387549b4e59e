// The Anthropic-compatible endpoints: /v1/messages and /v1/messages/count_tokens.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::anthropic {

void add_routes(Router& router, Services& services);

}  // namespace mlxr::anthropic
