// softmax_block: probabilities of a row of logits. One thread's work.
//
// Exponentials are summed in sixteen chains (element i in chain i mod 16) over blocks of 4096, and
// chains and blocks are added one by one in float64: the order is the same for every width of
// vectors. Results differ between instruction sets by the rounding of exp alone (targets without
// fused multiply-add).
#pragma once

#include <span>

namespace mlxr::cpu {

// x[i] = exp((x[i] - max) / temperature) / sum, in place; returns log(sum(exp(x / temperature))) of
// the old x. `temperature` is above 0. Limits are taken: what equals the maximum, be it infinite,
// weighs exp(0), so infinities share alike, and a row of -infinity alone becomes uniform. A NaN
// gets 0; without any number all are 0 and the result is -infinity.
double softmax(std::span<float> x, float temperature = 1.0f);

// What softmax returns, x unchanged: the probability of i is exp(x[i] / temperature - result).
double log_sum_exp(std::span<const float> x, float temperature = 1.0f);

}  // namespace mlxr::cpu
