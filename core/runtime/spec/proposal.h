// Tokens that may come next, proposed by something cheaper than the model, which then computes them
// all in one step (speculative decoding).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/runtime/sampler/sampler.h"

namespace mlxr {

struct Proposal {
  std::vector<int32_t> tokens;
  // What each token was drawn from, with random numbers that nothing else uses. Empty: the tokens
  // are simply guesses, however they were found.
  std::vector<Distribution> drawn_from;
};

class Proposer {
 public:
  virtual ~Proposer() = default;
  // At most `most` tokens to follow `history`, all tokens of the sequence so far, which grows from
  // call to call. None: nothing is worth a try.
  virtual Proposal propose(std::span<const int32_t> history, int32_t most) = 0;
};

}  // namespace mlxr
