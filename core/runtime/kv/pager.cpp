#include "core/runtime/kv/pager.h"

#include <utility>

#include "core/base/error.h"

namespace mlxr {

Pager::Pager(int32_t blocks, int32_t block_tokens)
    : block_tokens_(block_tokens), uses_(static_cast<size_t>(blocks), 0) {
  free_.reserve(uses_.size());
  for (BlockId block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

BlockId Pager::allocate() {
  if (free_.empty()) {
    throw Error(ErrorCode::kOutOfMemory,
                "all " + std::to_string(total_blocks()) + " KV blocks are in use");
  }
  const BlockId block = free_.back();
  free_.pop_back();
  uses_[static_cast<size_t>(block)] = 1;
  return block;
}

void Pager::retain(BlockId block) { ++uses_[static_cast<size_t>(block)]; }

void Pager::release(BlockId block) {
  if (--uses_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

KvSequence::KvSequence(KvSequence&& other) noexcept
    : pager_(other.pager_),
      blocks_(std::exchange(other.blocks_, {})),
      length_(std::exchange(other.length_, 0)) {}

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  if (this != &other) {
    clear();
    pager_ = other.pager_;
    blocks_ = std::exchange(other.blocks_, {});
    length_ = std::exchange(other.length_, 0);
  }
  return *this;
}

void KvSequence::reserve(int64_t tokens) {
  const int64_t size = pager_->block_tokens();
  const int64_t wanted = (tokens + size - 1) / size - static_cast<int64_t>(blocks_.size());
  if (wanted > pager_->free_blocks()) {
    throw Error(ErrorCode::kOutOfMemory, "a sequence needs " + std::to_string(wanted) +
                                             " more KV blocks, and " +
                                             std::to_string(pager_->free_blocks()) + " are free");
  }
  for (int64_t i = 0; i < wanted; ++i) blocks_.push_back(pager_->allocate());
}

void KvSequence::clear() {
  for (BlockId block : blocks_) pager_->release(block);
  blocks_.clear();
  length_ = 0;
}

}  // namespace mlxr
