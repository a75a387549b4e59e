// Lossless verification: what speculation returns is distributed as what the model returns alone.
//
// Guesses (without distributions): the token of a position is drawn as always, and a guess is
// accepted when it is that token. The text is then the same, token for token, as without
// speculation, whatever was guessed; and this is the rejection rule for a proposal that is certain
// of its token. Proposals with distributions follow the rejection rule (Leviathan et al. 2023,
// "Fast Inference from Transformers via Speculative Decoding", algorithm 1): the text has the same
// distribution, but may differ from the one without speculation.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/runtime/constraint/answer_constraint.h"
#include "core/runtime/spec/proposal.h"

namespace mlxr {

// Chooses the token of one position, where `proposed` was proposed, and drawn from `drawn_from`
// unless null. The result is `proposed` when it was accepted. The other arguments and errors are
// Sampler::sample's.
SampledToken choose_proposed(Sampler& sampler, std::span<const float> logits,
                             std::span<const int32_t> history, int64_t position, int n_top,
                             std::span<const uint32_t> mask, int32_t proposed,
                             const Distribution* drawn_from);

struct Verified {
  std::vector<SampledToken> tokens;  // the accepted ones and, unless the text ended, one more
  int32_t accepted = 0;              // of the proposal
};

struct VerifyOptions {
  int n_top = -1;                          // logprobs, as in Sampler::sample
  AnswerConstraint* constraint = nullptr;  // masks each position, and moves with the tokens
  // Hears every token as soon as it is chosen; true: nothing follows it.
  std::function<bool(const SampledToken&)> ends = nullptr;
};

// Chooses the tokens that follow `tokens`, the sequence so far, and appends them to it. `row(i)`
// gives the logits [vocab] after those and the first i tokens of the proposal, for i up to the size
// of the proposal. When it throws, the tokens chosen before are appended.
Verified verify(Sampler& sampler, std::vector<int32_t>& tokens, const Proposal& proposal,
                const std::function<std::span<const float>(size_t)>& row,
                const VerifyOptions& options = {});

}  // namespace mlxr
