// How one sequence chooses its next token. Plain data: the wire formats fill it, the sampler reads
// it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace mlxr {

struct SamplingParams {
  float temperature = 0.8f;             // 0 is greedy
  int32_t top_k = 40;                   // 0 is off
  float top_p = 0.95f;                  // 1 is off
  float min_p = 0.05f;                  // 0 is off
  float typical_p = 1.0f;               // 1 is off (locally typical sampling, Meister et al. 2022)
  float repeat_penalty = 1.0f;          // 1 is off; divides positive, multiplies negative logits
  float presence_penalty = 0.0f;        // subtracted once from every token already seen
  float frequency_penalty = 0.0f;       // subtracted times the number of occurrences
  int32_t penalty_last_n = 64;          // window of the three penalties; -1 is the whole sequence
  std::optional<uint64_t> seed;         // absent: drawn at random when the sequence starts
  std::map<int32_t, float> logit_bias;  // added to the logits first
};

}  // namespace mlxr
