// Models that judge how well a document answers a query: encoders with a classifier head, which
// read both as one text, and causal models that are asked and answer "yes" or "no".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mlxr {

struct Model;
enum class Pooling : uint8_t;

// Of a causal model: the rows of its vocabulary projection for its two answers, [hidden], and what
// it is asked, with "{query}" and "{document}" in it.
struct YesNoHead {
  std::vector<float> yes, no;
  std::string prompt;
};

// The prompt that Qwen3-Reranker was trained with (Zhang et al. 2025).
std::string default_rerank_prompt();

bool is_reranker(const Model& model);

// What a reranker reads. `token_types` is empty where all are 0.
struct RankInput {
  std::vector<int32_t> tokens, token_types;
};
RankInput rank_input(const Model& model, const std::string& query, const std::string& document);

// Which of the final states it judges by.
Pooling rank_pooling(const Model& model);
// The document's relevance by that state, 0 to 1.
double relevance(const Model& model, std::span<const float> state);

}  // namespace mlxr
