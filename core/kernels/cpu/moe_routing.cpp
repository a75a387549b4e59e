#include "core/kernels/cpu/moe_routing.h"

#include <cmath>
#include <limits>

#include "core/kernels/cpu/softmax.h"
#include "core/kernels/cpu/topk.h"

namespace mlxr::cpu {

void route(std::span<const float> logits, const float* bias, const RouterParams& params,
           ExpertChoice* out) {
  thread_local std::vector<float> scores, ranks;
  thread_local std::vector<TopLogit> best;
  scores.assign(logits.begin(), logits.end());
  if (params.score == RouterScore::kSoftmax) {
    softmax(scores);
  } else {
    for (float& s : scores) s = 1.0f / (1.0f + std::exp(-s));
  }
  // Logits have the order of their scores, and differ where those have been rounded to equals.
  ranks.assign(logits.begin(), logits.end());
  if (bias != nullptr) {
    for (size_t e = 0; e < ranks.size(); ++e) ranks[e] = scores[e] + bias[e];
  }
  top_k(ranks, params.used, best);
  const auto used = static_cast<size_t>(params.used);
  float sum = 0;
  for (size_t i = 0; i < used; ++i) {
    if (i < best.size()) {
      out[i] = {best[i].id, scores[static_cast<size_t>(best[i].id)]};
    } else {
      out[i] = {static_cast<int32_t>(i), std::numeric_limits<float>::quiet_NaN()};
    }
    sum += out[i].weight;
  }
  const float factor = params.renormalize ? params.scale / sum : params.scale;
  for (size_t i = 0; i < used; ++i) out[i].weight *= factor;
}

void sort_by_expert(std::span<const ExpertChoice> choices, int32_t used, int32_t experts,
                    ExpertRows& out) {
  out.first.assign(static_cast<size_t>(experts) + 1, 0);
  out.tokens.resize(choices.size());
  out.rows.resize(choices.size());
  for (const ExpertChoice& c : choices) ++out.first[static_cast<size_t>(c.expert) + 1];
  for (size_t e = 1; e < out.first.size(); ++e) out.first[e] += out.first[e - 1];
  thread_local std::vector<int32_t> next;
  next.assign(out.first.begin(), out.first.end());
  for (size_t i = 0; i < choices.size(); ++i) {
    const int32_t row = next[static_cast<size_t>(choices[i].expert)]++;
    out.rows[i] = row;
    out.tokens[static_cast<size_t>(row)] = static_cast<int32_t>(i) / used;
  }
}

}  // namespace mlxr::cpu
