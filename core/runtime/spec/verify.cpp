#include "core/runtime/spec/verify.h"

#include <algorithm>

#include "core/runtime/sampler/random.h"

namespace mlxr {
namespace {

// What is left of p where a draw from q was rejected: max(0, p - q), normalised.
int32_t draw_residual(const Distribution& p, const Distribution& q, double u) {
  Distribution rest = p;
  double sum = 0;
  for (size_t i = 0; i < rest.probabilities.size(); ++i) {
    float& x = rest.probabilities[i];
    x = std::max(0.0f, x - q.of(rest.candidates[i].token));
    sum += x;
  }
  // Rounding alone can leave nothing: p and q are then the same.
  if (!(sum > 0)) return p.draw(u);
  for (float& x : rest.probabilities) x = static_cast<float>(x / sum);
  // A candidate of no probability must not be the one that rounding leaves at the end.
  for (size_t i = rest.probabilities.size(); i > 0 && rest.probabilities[i - 1] == 0; --i) {
    rest.probabilities.pop_back();
    rest.candidates.pop_back();
  }
  return rest.draw(u);
}

}  // namespace

SampledToken choose_proposed(Sampler& sampler, std::span<const float> logits,
                             std::span<const int32_t> history, int64_t position, int n_top,
                             std::span<const uint32_t> mask, int32_t proposed,
                             const Distribution* drawn_from) {
  if (drawn_from == nullptr) return sampler.sample(logits, history, position, n_top, mask);
  const Distribution& p = sampler.distribution(logits, history, position, mask);
  const double u = uniform(sampler.seed(), position, RandomStream::kAccept);
  const bool accepted = u * drawn_from->of(proposed) < p.of(proposed);
  const int32_t token =
      accepted ? proposed : draw_residual(p, *drawn_from, uniform(sampler.seed(), position));
  sampler.chose(token);
  return with_logprobs(token, logits, n_top);
}

Verified verify(Sampler& sampler, std::vector<int32_t>& tokens, const Proposal& proposal,
                const std::function<std::span<const float>(size_t)>& row,
                const VerifyOptions& options) {
  Verified out;
  for (size_t i = 0;; ++i) {
    const auto position = static_cast<int64_t>(tokens.size());
    const auto mask = options.constraint ? options.constraint->mask() : std::span<const uint32_t>{};
    const bool last = i == proposal.tokens.size();
    const Distribution* drawn_from =
        last || proposal.drawn_from.empty() ? nullptr : &proposal.drawn_from[i];
    out.tokens.push_back(choose_proposed(sampler, row(i), tokens, position, options.n_top, mask,
                                         last ? -1 : proposal.tokens[i], drawn_from));
    int32_t& token = out.tokens.back().token;
    if (options.constraint) token = options.constraint->instead_of(token);
    tokens.push_back(token);
    if (options.constraint) options.constraint->accept(token);
    bool over = options.ends && options.ends(out.tokens.back());
    over = over || (options.constraint && options.constraint->complete());
    if (last || token != proposal.tokens[i]) return out;
    ++out.accepted;
    if (over) return out;
  }
}

}  // namespace mlxr
