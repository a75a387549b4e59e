// Chooses tokens from logits. One Sampler serves one sequence.
//
// Order: logit bias, penalties, DRY, the constraint's mask; then (temperature 0) argmax, or top-n-
// sigma, top-k, typical, top-p, min-p, XTC, temperature and a draw; with mirostat, temperature and
// mirostat's truncation instead of the others. Random numbers are functions of (seed, position).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/runtime/sampler/candidates.h"
#include "core/runtime/sampler/sampling_params.h"

namespace mlxr {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm of the softmax of the model's unmodified logits

  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;              // as in TokenLogprob; 0 unless logprobs were asked for
  std::vector<TokenLogprob> top;  // the `n_top` most likely, best first
};

// What a token is drawn from: a probability for each candidate.
struct Distribution {
  Candidates candidates;
  std::vector<float> probabilities;  // they add up to 1

  float of(int32_t token) const;  // 0 for one that is not among the candidates
  // The token at `u` in [0, 1) of the cumulated probabilities.
  int32_t draw(double u) const;
};

class Sampler {
 public:
  // `token_bytes` gives a token's text; DRY needs it for its breakers and has none without it.
  // Throws Error{kInvalidArgument} naming the parameter that is out of range.
  Sampler(const SamplingParams& params, int32_t vocab_size,
          std::function<std::string(int32_t)> token_bytes = nullptr);

  // Logits [vocab] float32 for the token at `position` (its index in the sequence); `history` is
  // every token of the sequence so far (prompt and generated). `n_top` >= 0 asks for logprobs;
  // -1 for none. `mask`: a bit for each token that may be chosen (constraint.h); empty: all.
  SampledToken sample(std::span<const float> logits, std::span<const int32_t> history,
                      int64_t position, int n_top = -1, std::span<const uint32_t> mask = {});

  // The parts of sample(), for who needs to know what a token is drawn from (spec/verify.h): the
  // distribution, valid until the next call, and that `token` was chosen from it.
  const Distribution& distribution(std::span<const float> logits, std::span<const int32_t> history,
                                   int64_t position, std::span<const uint32_t> mask = {});
  void chose(int32_t token);

  // The sequence was cut: what follows has positions that it had before, and gets other numbers.
  void go_on_with_next_seed();

  uint64_t seed() const { return seed_; }

 private:
  std::span<const float> adjust(std::span<const float> logits, std::span<const int32_t> history,
                                std::span<const uint32_t> mask);
  bool breaks_repetitions(int32_t token);
  void truncate(std::span<const float> logits, int64_t position);
  void truncate_mirostat(std::span<const float> logits);

  SamplingParams params_;
  uint64_t seed_;
  std::function<std::string(int32_t)> token_bytes_;
  std::unordered_map<int32_t, bool> breakers_;  // what is known of tokens of the text
  float mirostat_mu_;
  std::vector<float> logits_;  // working copy, [vocab]
  Distribution distribution_;
};

// Logprobs of `token` and of the n_top likeliest under the model's own logits.
SampledToken with_logprobs(int32_t token, std::span<const float> logits, int n_top);

}  // namespace mlxr
