// Chooses tokens from logits. One Sampler serves one sequence.
//
// Order: logit bias, penalties, then (temperature 0) argmax, or top-k, typical, top-p, min-p,
// temperature and a draw. The random number of a draw is a function of (seed, position) alone, so
// the same seed gives the same text whatever shares the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/runtime/sampler/sampling_params.h"

namespace mlxr {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm of the softmax of the model's unmodified logits
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;              // as in TokenLogprob; 0 unless logprobs were asked for
  std::vector<TokenLogprob> top;  // the `n_top` most likely, best first
};

class Sampler {
 public:
  // Throws Error{kInvalidArgument} naming the parameter that is out of range.
  Sampler(const SamplingParams& params, int32_t vocab_size);

  // Logits [vocab] float32 for the token at `position` (its index in the sequence); `history` is
  // every token of the sequence so far (prompt and generated). `n_top` >= 0 asks for logprobs;
  // -1 for none.
  SampledToken sample(std::span<const float> logits, std::span<const int32_t> history,
                      int64_t position, int n_top = -1);

  uint64_t seed() const { return seed_; }

 private:
  struct Candidate {
    int32_t token;
    float logit;
  };
  void apply_penalties(std::span<const int32_t> history);
  int32_t choose(int64_t position);  // from logits_, temperature above 0

  SamplingParams params_;
  uint64_t seed_;
  std::vector<float> logits_;  // working copy, [vocab]
  std::vector<Candidate> candidates_;
};

}  // namespace mlxr
