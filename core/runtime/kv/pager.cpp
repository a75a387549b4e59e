#include "core/runtime/kv/pager.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace mlxr {

std::string to_text(const KvNeed& need) {
  std::string text = std::to_string(need.blocks) + " KV blocks";
  if (need.parts > 0) text += " and " + std::to_string(need.parts) + " places for their windows";
  return text;
}

Pager::Pager(int32_t blocks, int32_t block_tokens, const KvWindow& window)
    : block_tokens_(block_tokens),
      window_(window),
      uses_(static_cast<size_t>(blocks), 0),
      index_(blocks),
      parts_(window, blocks) {
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
    parts_.drop(*evicted);
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
    parts_.drop(block);
    free_.push_back(block);
  }
}

void Pager::leave_window(BlockId block) {
  parts_.let_go(block);
  if (!index_.published(block) && !parts_.held(block)) parts_.drop(block);
}

BlockId Pager::publish(BlockId block, const BlockHash& hash, std::optional<BlockId> parent) {
  if (const std::optional<BlockId> twin = find(hash)) {
    retain(*twin);
    if (window_.tokens > 0) parts_.merge(block, *twin);
    release(block);
    return *twin;
  }
  index_.publish(block, hash, parent);
  if (observer_) observer_(block);
  return block;
}

void Pager::check() const {
  index_.check(uses_);
  parts_.check(uses_);
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
