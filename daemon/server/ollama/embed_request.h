// Reads the bodies of POST /api/embed and /api/embeddings.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "daemon/server/embedding.h"

namespace mlxr::ollama {

struct OllamaEmbedRequest {
  EmbedRequest embed;  // without texts where the model is only loaded
  std::optional<std::chrono::milliseconds> keep_alive;
};

// Throw RequestError naming the field. `legacy`: the body of /api/embeddings.
OllamaEmbedRequest read_embed_request(const std::string& body, bool legacy);

}  // namespace mlxr::ollama
