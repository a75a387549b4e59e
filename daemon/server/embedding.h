// Embeddings and rerankings as all APIs share them: texts to tokens, tokens through the scheduler
// to vectors, documents to scores.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/server/http/exchange.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/services.h"

namespace mlxr {

inline constexpr size_t kMaxTexts = 2048;  // of one request

struct EmbedRequest {
  openai::RequestOptions options;          // the model, priority and timeout
  std::vector<openai::PromptInput> texts;  // at least one
  std::string param = "input";             // the field that holds them, for complaints
  bool many = true;                        // they were given as an array
  std::optional<int32_t> dimensions;       // of the vectors; absent: all that the model gives
  bool truncate = false;                   // texts that are too long lose their ends
};

struct Embeddings {
  std::vector<std::vector<float>> vectors;  // one a text, of length 1
  int64_t tokens = 0;                       // of all texts
};

// Nothing when the client went. Throws RequestError naming a text that is empty or too long, tokens
// that the model does not have, or dimensions that it does not give.
Task<std::optional<Embeddings>> embed(Services& services, Exchange& exchange,
                                      std::shared_ptr<ServedModel> model,
                                      const EmbedRequest& request);

struct RerankRequest {
  openai::RequestOptions options;
  std::string query;
  std::vector<std::string> documents;  // at least one
};

struct Ranking {
  struct Result {
    size_t index = 0;  // of the document
    double score = 0;
  };
  std::vector<Result> results;  // the best first
  int64_t tokens = 0;
};

// By the model's own judgement, 0 to 1, where it is a reranker, else by the cosine of the query's
// and the document's embeddings, -1 to 1. Nothing when the client went. Throws as embed().
Task<std::optional<Ranking>> rerank(Services& services, Exchange& exchange,
                                    std::shared_ptr<ServedModel> model,
                                    const RerankRequest& request);

}  // namespace mlxr
