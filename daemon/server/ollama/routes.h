// The Ollama-compatible endpoints, below /api, and "Ollama is running" at /.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::ollama {

void add_routes(Router& router, Services& services);

}  // namespace mlxr::ollama
