#include "core/runtime/kv/kv_sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace mlxr {

KvSequence::KvSequence(KvSequence&& other) noexcept
    : pager_(other.pager_),
      blocks_(std::exchange(other.blocks_, {})),
      length_(std::exchange(other.length_, 0)),
      ahead_(std::exchange(other.ahead_, 0)),
      chain_(std::exchange(other.chain_, {})) {}

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  if (this != &other) {
    release_all();
    pager_ = other.pager_;
    blocks_ = std::exchange(other.blocks_, {});
    length_ = std::exchange(other.length_, 0);
    ahead_ = std::exchange(other.ahead_, 0);
    chain_ = std::exchange(other.chain_, {});
  }
  return *this;
}

int64_t KvSequence::blocks_of_length() const {
  const int64_t size = pager_->block_tokens();
  return (length_ + size - 1) / size;
}

bool KvSequence::may_adopt() const {
  return chain_ && length_ == static_cast<int64_t>(blocks_.size()) * pager_->block_tokens();
}

int64_t KvSequence::adopt(std::span<const int32_t> tokens) {
  if (!may_adopt()) return 0;
  const int64_t size = pager_->block_tokens();
  const int64_t before = length_;
  while (static_cast<int64_t>(tokens.size()) > size) {
    BlockChain next = *chain_;
    const auto hash = next.append(tokens);
    const auto block = pager_->find(*hash);
    if (!block) break;
    blocks_.push_back(*block);
    chain_ = next;
    length_ += size;
  }
  return length_ - before;
}

std::vector<BlockHash> KvSequence::next_names(std::span<const int32_t> tokens, size_t most) const {
  std::vector<BlockHash> names;
  if (!may_adopt()) return names;
  BlockChain chain = *chain_;
  while (names.size() < most && static_cast<int64_t>(tokens.size()) > pager_->block_tokens()) {
    names.push_back(*chain.append(tokens));
  }
  return names;
}

void KvSequence::restore(std::span<const int32_t> tokens,
                         const std::function<void(BlockId)>& fill) {
  const int64_t size = pager_->block_tokens();
  if (!may_adopt() || static_cast<int64_t>(tokens.size()) < size) {
    throw Error(ErrorCode::kInternal, "[KvSequence::restore] there is no place for a full block");
  }
  if (reserve(length_ + size)) {
    throw Error(ErrorCode::kInternal, "[KvSequence::restore] the open block is shared");
  }
  fill(blocks_.back());
  advance(tokens.first(static_cast<size_t>(size)));
}

KvSequence KvSequence::fork() const {
  KvSequence copy(*pager_);
  copy.blocks_.assign(blocks_.begin(), blocks_.begin() + blocks_of_length());
  copy.length_ = length_;
  copy.chain_ = chain_;
  for (BlockId block : copy.blocks_) pager_->retain(block);
  return copy;
}

bool KvSequence::must_copy() const {
  const int64_t size = pager_->block_tokens();
  const auto open = static_cast<size_t>(length_ / size);
  return length_ % size != 0 && !pager_->writable(blocks_[open]);
}

int64_t KvSequence::blocks_to_reserve(int64_t tokens) const {
  const int64_t size = pager_->block_tokens();
  const int64_t more = (tokens + size - 1) / size - static_cast<int64_t>(blocks_.size());
  return std::max<int64_t>(0, more) + (tokens > length_ && must_copy() ? 1 : 0);
}

std::optional<BlockCopy> KvSequence::reserve(int64_t tokens) {
  int64_t wanted = blocks_to_reserve(tokens);
  if (wanted > pager_->free_blocks()) {
    throw Error(ErrorCode::kOutOfMemory, "a sequence needs " + std::to_string(wanted) +
                                             " more KV blocks, and " +
                                             std::to_string(pager_->free_blocks()) + " are free");
  }
  std::optional<BlockCopy> copy;
  if (tokens > length_ && must_copy()) {
    BlockId& open = blocks_[static_cast<size_t>(length_ / pager_->block_tokens())];
    copy = {open, pager_->allocate()};
    pager_->release(open);
    open = copy->to;
    --wanted;
  }
  for (int64_t i = 0; i < wanted; ++i) blocks_.push_back(pager_->allocate());
  return copy;
}

void KvSequence::release_all() {
  // The last first: a child is parked before its parent.
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) pager_->release(*block);
}

void KvSequence::advance(std::span<const int32_t> tokens) {
  auto full = static_cast<size_t>(length_ / pager_->block_tokens());
  length_ += static_cast<int64_t>(tokens.size());
  if (!chain_) return;
  while (!tokens.empty()) {
    const auto hash = chain_->append(tokens);
    if (!hash) break;
    const auto parent = full == 0 ? std::nullopt : std::optional(blocks_[full - 1]);
    blocks_[full] = pager_->publish(blocks_[full], *hash, parent);
    ++full;
  }
}

void KvSequence::settle(std::span<const int32_t> tokens) {
  ahead_ = 0;
  advance(tokens);
  for (; static_cast<int64_t>(blocks_.size()) > blocks_of_length(); blocks_.pop_back()) {
    pager_->release(blocks_.back());
  }
}

}  // namespace mlxr
