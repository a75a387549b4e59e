// Penalties on what the text already says.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/runtime/sampler/sampling_params.h"

namespace mlxr {

// Repeat, presence and frequency penalties over the last `penalty_last_n` tokens. Repeat: Keskar et
// al. 2019, "CTRL"; the others are OpenAI's.
void apply_penalties(const SamplingParams& params, std::span<const int32_t> history,
                     std::span<float> logits);

// How long a repetition each token would go on with: the longest end of `history` that also stands
// earlier, followed by that token. O(n), by the Z algorithm on the reversed text (Gusfield 1997).
// Only repetitions of at least `least` tokens; none reaches over a token that breaks.
std::unordered_map<int32_t, int32_t> repetitions(std::span<const int32_t> history, int32_t least,
                                                 const std::function<bool(int32_t)>& breaks);

// DRY ("don't repeat yourself"): a token that goes on with a repetition of n tokens loses
// multiplier * base ^ (n - allowed length). p-e-w, text-generation-webui PR 5677.
void apply_dry(const SamplingParams& params, std::span<const int32_t> history,
               const std::function<bool(int32_t)>& breaks, std::span<float> logits);

}  // namespace mlxr
