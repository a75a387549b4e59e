// Reads the body of POST /v1/embeddings, and writes its answer.
#pragma once

#include <string>

#include "daemon/server/embedding.h"
#include "daemon/server/json_body.h"

namespace mlxr::openai {

struct EmbeddingRequest {
  EmbedRequest embed;
  bool base64 = false;  // little-endian float32 instead of numbers
};

// Throws RequestError naming the field.
EmbeddingRequest read_embedding_request(const std::string& body);

Json embedding_body(const Embeddings& embeddings, const std::string& model, bool base64);

// RFC 4648, with padding.
std::string to_base64(std::string_view bytes);

}  // namespace mlxr::openai
