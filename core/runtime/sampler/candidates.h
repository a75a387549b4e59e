// What a draw chooses from, and the truncations that narrow it. Each takes candidates in any order
// and leaves at least one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mlxr {

struct Candidate {
  int32_t token = 0;
  float logit = 0;
};
using Candidates = std::vector<Candidate>;

// The larger logit, of equals the lower token.
inline bool is_better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Every finite logit that is at least `floor`.
void collect(std::span<const float> logits, float floor, Candidates& out);
// The k best finite logits, best first.
void collect_best(std::span<const float> logits, int32_t k, Candidates& out);
// The fewest best ones that hold `mass` of the whole row's probability, best first: what collect()
// and keep_nucleus() give, without sorting the row.
void collect_nucleus(std::span<const float> logits, double mass, Candidates& out);

// Probabilities at a temperature above 0, in the order of the candidates.
void softmax(const Candidates& candidates, float temperature, std::vector<float>& out);

// The lowest logit that top-n-sigma keeps: n standard deviations of the row below its maximum.
// Tang et al. 2024, "Top-n-sigma: Not All Logits Are You Need". Infinite logits do not count.
float n_sigma_floor(std::span<const float> logits, float n);

void keep_above(Candidates& candidates, float floor);

// Nucleus sampling: the fewest best that hold `mass` of the probability, best first. Holtzman et
// al. 2019, "The Curious Case of Neural Text Degeneration".
void keep_nucleus(Candidates& candidates, double mass);

// Locally typical sampling: those whose surprise is nearest to the entropy, up to `mass`, best
// first. Meister et al. 2022, "Locally Typical Sampling".
void keep_typical(Candidates& candidates, double mass);

// At least `min_p` times as likely as the best. Nguyen et al. 2024, "Turning Up the Heat: Min-p
// Sampling for Creative and Coherent LLM Outputs".
void keep_min_p(Candidates& candidates, float min_p);

// Exclude Top Choices: of those at least `threshold` likely, all go but the least likely one.
// p-e-w, text-generation-webui PR 6335.
void exclude_top_choices(Candidates& candidates, float threshold);

// Dynamic temperature: from (temperature - range) for a certain distribution to (temperature +
// range) for a flat one, by its entropy over the largest possible, to the power of `exponent`.
// kalomaze 2023, llama.cpp PR 4972. At least 1e-3, so that a softmax can divide by it.
float dynamic_temperature(const Candidates& candidates, float temperature, float range,
                          float exponent);

// Mirostat, version 2: those of at most `mu` bits of surprise, best first. Basu et al. 2021,
// "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity".
void keep_mirostat(Candidates& candidates, float mu);

// Version 1: the k best, k from mu and an estimate of Zipf's exponent, for `vocab_size` tokens.
void keep_mirostat_v1(Candidates& candidates, float mu, int32_t vocab_size);

}  // namespace mlxr
