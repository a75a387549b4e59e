// POST /api/embed, and /api/embeddings as it was before.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::ollama {

void add_embed_routes(Router& router, Services& services);

}  // namespace mlxr::ollama
