// How one sequence chooses its next token. Plain data: the wire formats fill it, the sampler reads
// it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mlxr {

struct SamplingParams {
  float temperature = 0.8f;         // 0 is greedy
  float dynatemp_range = 0.0f;      // temperature within +- this, by entropy; 0 is off
  float dynatemp_exponent = 1.0f;   // of the entropy's share of its maximum
  int32_t top_k = 40;               // 0 is off
  float top_p = 0.95f;              // 1 is off
  float min_p = 0.05f;              // 0 is off
  float typical_p = 1.0f;           // 1 is off
  float top_n_sigma = 0.0f;         // standard deviations below the best logit; 0 is off
  float xtc_probability = 0.0f;     // of leaving the likeliest out; 0 is off
  float xtc_threshold = 0.1f;       // of those at least this likely all go but the last
  int32_t mirostat = 0;             // 0 is off; 1 or 2 replaces every truncation above
  float mirostat_tau = 5.0f;        // the surprise that it keeps to, bits
  float mirostat_eta = 0.1f;        // its learning rate
  float repeat_penalty = 1.0f;      // 1 is off; divides positive, multiplies negative logits
  float presence_penalty = 0.0f;    // subtracted once from every token already seen
  float frequency_penalty = 0.0f;   // subtracted times the number of occurrences
  int32_t penalty_last_n = 64;      // window of the three penalties; -1 is the whole sequence
  float dry_multiplier = 0.0f;      // of the penalty on going on with a repetition; 0 is off
  float dry_base = 1.75f;           // to the power of the repetition's length beyond ...
  int32_t dry_allowed_length = 2;   // ... this, tokens
  int32_t dry_penalty_last_n = -1;  // window of DRY; -1 is the whole sequence
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};  // end a repetition
  std::optional<uint64_t> seed;         // absent: drawn at random when the sequence starts
  std::map<int32_t, float> logit_bias;  // added to the logits first
};

}  // namespace mlxr
