// POST /v1/rerank and /rerank, in the shape that Jina's and Cohere's clients share.
#pragma once

#include <string>

#include "daemon/server/embedding.h"
#include "daemon/server/json_body.h"

namespace mlxr::native {

struct RerankBody {
  RerankRequest rerank;
  size_t top_n = 0;               // results; 0: all
  bool return_documents = false;  // with their texts
};

// Throws RequestError naming the field.
RerankBody read_rerank_request(const std::string& body);

Json rerank_body(const Ranking& ranking, const RerankBody& request, const std::string& id,
                 const std::string& model);

}  // namespace mlxr::native
