// Proposes what a smaller model with the same vocabulary would write.
#pragma once

#include <cstdint>
#include <span>

#include "core/runtime/sampler/sampler.h"

namespace mlxr {

// The token after `tokens` by a draft's logits [vocab of the sampler]. `sampler` is the sequence's
// own, whose state stays: a draft is drawn as the sequence draws, with the random number of its
// position, so that two models that agree draw the same token. Verified as a guess, it leaves the
// answer the very text that the model writes alone.
int32_t draft_token(Sampler& sampler, std::span<const float> logits,
                    std::span<const int32_t> tokens);

}  // namespace mlxr
