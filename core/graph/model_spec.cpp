#include "core/graph/model_spec.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace mlxr {

namespace {

template <class Require>
void check_rope(const RopeSpec& rope, int32_t head_dim, const Require& require) {
  require(rope.dims >= 0 && rope.dims % 2 == 0 && rope.dims <= head_dim,
          "rotates " + std::to_string(rope.dims) + " of " + std::to_string(head_dim) +
              " head dimensions");
  require(rope.theta > 0 && rope.factor > 0, "has a RoPE base or factor that is not positive");
  require(rope.frequency_factors.empty() ||
              rope.frequency_factors.size() == static_cast<size_t>(rope.dims / 2),
          "has RoPE frequency factors of the wrong length");
}

}  // namespace

void check_spec(const ModelSpec& s, const std::string& where) {
  const auto require = [&](bool good, const std::string& what) {
    if (!good) throw Error(ErrorCode::kCorruptFile, where + " " + what);
  };
  constexpr int32_t kMost = 1 << 24;
  const std::pair<const char*, int32_t> sizes[] = {
      {"vocabulary size", s.vocab}, {"hidden size", s.hidden},     {"layer count", s.layers},
      {"head count", s.heads},      {"KV head count", s.kv_heads}, {"head size", s.head_dim},
      {"feed-forward size", s.ffn}, {"context length", s.context}};
  for (const auto& [name, value] : sizes) {
    require(value > 0 && value <= kMost,
            "states an impossible " + std::string(name) + " of " + std::to_string(value));
  }
  require(s.heads % s.kv_heads == 0, "has " + std::to_string(s.heads) +
                                         " heads, not a multiple of " + std::to_string(s.kv_heads) +
                                         " KV heads");
  require(s.windows.empty() || s.windows.size() == static_cast<size_t>(s.layers),
          "states attention windows for " + std::to_string(s.windows.size()) + " of " +
              std::to_string(s.layers) + " layers");
  for (int32_t window : s.windows) require(window >= 0, "has a negative attention window");
  if (s.moe.experts != 0) {
    require(s.moe.experts > 0 && s.moe.experts <= kMost && s.moe.router.used > 0 &&
                s.moe.router.used <= s.moe.experts,
            "uses " + std::to_string(s.moe.router.used) + " of " + std::to_string(s.moe.experts) +
                " experts a token");
    require(
        s.moe.ffn > 0 && s.moe.ffn <= kMost && s.moe.shared_ffn >= 0 && s.moe.shared_ffn <= kMost,
        "states an impossible feed-forward size of its experts");
  }
  check_rope(s.rope, s.head_dim, require);
  if (s.window_rope) check_rope(*s.window_rope, s.head_dim, require);
}

namespace {

// The frequency index at which a wave turns `rotations` times over the original context.
double correction_index(const RopeSpec& r, double rotations) {
  return r.dims * std::log(r.original_context / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(r.theta));
}

void scale_yarn(const RopeSpec& r, RopeFrequencies& out) {
  double low = std::max(0.0, std::floor(correction_index(r, r.beta_fast)));
  double high = std::min<double>(r.dims - 1, std::ceil(correction_index(r, r.beta_slow)));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < out.inverse.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    out.inverse[i] = out.inverse[i] / r.factor * ramp + out.inverse[i] * (1 - ramp);
  }
  const double automatic = r.factor > 1 ? 0.1 * std::log(r.factor) + 1 : 1.0;
  out.magnitude = r.attention_factor > 0 ? r.attention_factor : automatic;
}

void scale_llama3(const RopeSpec& r, RopeFrequencies& out) {
  const double longest = r.original_context / r.low_freq_factor;
  const double shortest = r.original_context / r.high_freq_factor;
  for (double& f : out.inverse) {
    const double wave = 2 * std::numbers::pi / f;
    if (wave > longest) {
      f /= r.factor;
    } else if (wave > shortest) {
      const double smooth = (r.original_context / wave - r.low_freq_factor) /
                            (r.high_freq_factor - r.low_freq_factor);
      f = (1 - smooth) * f / r.factor + smooth * f;
    }
  }
}

double dynamic_theta(const RopeSpec& r, int32_t window) {
  if (window <= r.original_context || r.dims <= 2) return r.theta;
  const double stretch = r.factor * window / r.original_context - (r.factor - 1);
  return r.theta * std::pow(stretch, r.dims / (r.dims - 2.0));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeSpec& r, int32_t window) {
  RopeFrequencies out;
  const double theta = r.scaling == RopeScaling::kDynamic ? dynamic_theta(r, window) : r.theta;
  for (int32_t i = 0; i < r.dims / 2; ++i) {
    const double factor =
        r.frequency_factors.empty() ? 1.0 : r.frequency_factors[static_cast<size_t>(i)];
    out.inverse.push_back(std::pow(theta, -2.0 * i / r.dims) / factor);
  }
  switch (r.scaling) {
    case RopeScaling::kLinear:
      for (double& f : out.inverse) f /= r.factor;
      break;
    case RopeScaling::kYarn:
      scale_yarn(r, out);
      break;
    case RopeScaling::kLlama3:
      scale_llama3(r, out);
      break;
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
      break;
  }
  return out;
}

}  // namespace mlxr
