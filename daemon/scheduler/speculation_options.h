// How a model's answers speculate.
#pragma once

#include <cstdint>

#include "core/runtime/spec/depth_controller.h"

namespace mlxr {

// Where tokens come from that are computed before it is known whether they are right. An answer is
// the same, token for token, whatever is chosen here.
enum class SpeculationMode {
  kOff,
  kNgram,  // from what followed the last few tokens earlier in the text
  kDraft,  // from a smaller model
};

// By all answers together in a step. With some dozens of tokens a step is bound by arithmetic on
// any machine, and one that may be wrong costs what a right one does; and each takes a row of
// logits.
inline constexpr int64_t kMostProposed = 64;

struct SpeculationOptions {
  SpeculationMode mode = SpeculationMode::kOff;
  DepthOptions depth;
};

}  // namespace mlxr
