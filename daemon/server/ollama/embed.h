// POST /api/embed, and /api/embeddings as it was before.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "daemon/server/embedding.h"
#include "daemon/server/http/router.h"

namespace mlxr::ollama {

struct OllamaEmbedRequest {
  EmbedRequest embed;  // without texts where the model is only loaded
  std::optional<std::chrono::milliseconds> keep_alive;
};

// Throw RequestError naming the field. `legacy`: the body of /api/embeddings.
OllamaEmbedRequest read_embed_request(const std::string& body, bool legacy);

void add_embed_routes(Router& router, Services& services);

}  // namespace mlxr::ollama
