// A KV block's place in a Pager.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxr {

enum class BlockId : int32_t {};

inline constexpr BlockId kNoBlock{-1};

constexpr size_t index_of(BlockId block) { return static_cast<size_t>(block); }

}  // namespace mlxr
