// What an answer does that fills the context window and may go on (decision 8): the first tokens
// stay, the older half of the others is dropped, and what is left is computed anew.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mlxr {

struct ContextShift {
  int32_t keep = 0;  // tokens of the prompt that always stay; -1: all of it
};

// An answer without a limit of its own ends after so many windows: a model that has lost its thread
// would never end it.
inline constexpr int32_t kMostWindows = 10;

struct DroppedTokens {
  size_t begin = 0, count = 0;
};

// Of a full window of at least two tokens. One is dropped and one besides the kept ones stays,
// however many are to be kept.
inline DroppedTokens dropped_by_shift(size_t window, size_t keep) {
  const size_t begin = std::min(keep, window - 2);
  return {begin, (window - begin) / 2};
}

}  // namespace mlxr
