#include "core/runtime/kv/pager.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace mlxr {

Pager::Pager(int32_t blocks, int32_t block_tokens)
    : block_tokens_(block_tokens), uses_(static_cast<size_t>(blocks), 0), index_(blocks) {
  free_.reserve(uses_.size());
  for (int32_t block = blocks - 1; block >= 0; --block) free_.push_back(BlockId(block));
}

BlockId Pager::allocate() {
  if (free_.empty()) {
    const std::optional<BlockId> evicted = index_.evict();
    if (!evicted) {
      throw Error(ErrorCode::kOutOfMemory,
                  "all " + std::to_string(total_blocks()) + " KV blocks are in use");
    }
    free_.push_back(*evicted);
    ++evictions_;
  }
  const BlockId block = free_.back();
  free_.pop_back();
  uses_[index_of(block)] = 1;
  return block;
}

void Pager::retain(BlockId block) {
  if (uses_[index_of(block)]++ == 0) index_.take(block);
}

void Pager::release(BlockId block) {
  if (--uses_[index_of(block)] > 0) return;
  if (index_.published(block)) {
    index_.park(block);
  } else {
    free_.push_back(block);
  }
}

std::optional<BlockId> Pager::find(const BlockHash& hash) {
  const std::optional<BlockId> block = index_.find(hash);
  if (block) retain(*block);
  return block;
}

BlockId Pager::publish(BlockId block, const BlockHash& hash, std::optional<BlockId> parent) {
  if (const std::optional<BlockId> twin = find(hash)) {
    release(block);
    return *twin;
  }
  index_.publish(block, hash, parent);
  if (observer_) observer_(block);
  return block;
}

void Pager::check() const {
  index_.check(uses_);
  const auto used = std::ranges::count_if(uses_, [](int32_t uses) { return uses != 0; });
  if (used + free_blocks() != total_blocks() ||
      std::ranges::any_of(uses_, [](int32_t uses) { return uses < 0; }) ||
      std::ranges::any_of(free_, [&](BlockId block) {
        return uses_[index_of(block)] != 0 || index_.published(block);
      })) {
    throw Error(ErrorCode::kInternal, "[Pager::check] " + std::to_string(used) + " used and " +
                                          std::to_string(free_blocks()) + " free KV blocks of " +
                                          std::to_string(total_blocks()));
  }
}

}  // namespace mlxr
