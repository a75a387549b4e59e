// Models as Ollama writes them.
#pragma once

#include "daemon/server/json_body.h"
#include "daemon/server/services.h"

namespace mlxr::ollama {

// The bodies of GET /api/tags and /api/ps, POST /api/show.
Json tags_body(Services& services);
Json ps_body(Services& services);
// Throws Error as ModelManager::find and load_model.
Json show_body(Services& services, const std::string& name);

}  // namespace mlxr::ollama
