#include "core/runtime/spec/draft_token.h"

#include "core/runtime/sampler/random.h"

namespace mlxr {

int32_t draft_token(Sampler& sampler, std::span<const float> logits,
                    std::span<const int32_t> tokens) {
  const auto position = static_cast<int64_t>(tokens.size());
  return sampler.distribution(logits, tokens, position).draw(uniform(sampler.seed(), position));
}

}  // namespace mlxr
