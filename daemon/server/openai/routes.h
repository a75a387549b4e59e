// The OpenAI-compatible endpoints: /v1/models, /v1/chat/completions, /v1/completions,
// /v1/responses.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::openai {

void add_routes(Router& router, Services& services);

}  // namespace mlxr::openai
