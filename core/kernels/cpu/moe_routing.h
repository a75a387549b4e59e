// Which experts a token of a mixture takes, and the order in which experts take their tokens. One
// thread's work.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mlxr::cpu {

enum class RouterScore {
  kSoftmax,  // over all experts (Shazeer et al. 2017)
  kSigmoid,  // each on its own (DeepSeek-AI 2024)
};

struct RouterParams {
  int32_t used = 0;  // experts of a token, at most as many as there are
  RouterScore score = RouterScore::kSoftmax;
  // Divide the chosen scores by their sum. With kSoftmax it makes them the softmax of the chosen
  // logits alone, so that order of top-k and softmax needs no parameter.
  bool renormalize = false;
  float scale = 1;  // of the weights, at the end
};

struct ExpertChoice {
  int32_t expert = 0;
  float weight = 0;
};

// The best `used` experts of one token, best first, of equals the lower; out: [used]. `bias`
// ([experts] or null) is added to the scores for the choice alone, not to the weights. A token
// whose logits are no numbers gets experts in order with weights that are none.
void route(std::span<const float> logits, const float* bias, const RouterParams& params,
           ExpertChoice* out);

// Choices sorted by expert, so that its weights are read once for all who chose it.
struct ExpertRows {
  std::vector<int32_t> first;   // [experts + 1]: rows first[e] .. first[e + 1] are those of e
  std::vector<int32_t> tokens;  // [tokens * used]: whose row it is; ascending for each expert
  std::vector<int32_t> rows;    // [tokens * used]: the row of each choice
};
void sort_by_expert(std::span<const ExpertChoice> choices, int32_t used, int32_t experts,
                    ExpertRows& out);

}  // namespace mlxr::cpu
