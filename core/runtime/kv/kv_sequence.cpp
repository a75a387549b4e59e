#include "core/runtime/kv/kv_sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace mlxr {

KvSequence::KvSequence(KvSequence&& other) noexcept
    : pager_(other.pager_),
      blocks_(std::exchange(other.blocks_, {})),
      window_begin_(std::exchange(other.window_begin_, 0)),
      length_(std::exchange(other.length_, 0)),
      ahead_(std::exchange(other.ahead_, 0)),
      chain_(std::exchange(other.chain_, {})) {}

KvSequence& KvSequence::operator=(KvSequence&& other) noexcept {
  if (this != &other) {
    release_all();
    pager_ = other.pager_;
    blocks_ = std::exchange(other.blocks_, {});
    window_begin_ = std::exchange(other.window_begin_, 0);
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

bool KvSequence::windowed() const { return pager_->window().tokens > 0; }

// The first block that a token at position `length` reads in layers with a window.
size_t KvSequence::window_begin_at(int64_t length) const {
  if (!windowed()) return 0;
  const int64_t first = std::max<int64_t>(0, length - pager_->window().tokens + 1);
  return static_cast<size_t>(first / pager_->block_tokens());
}

// How many of the blocks that were found behind the sequence's own may be taken: all in the window
// of the token behind them must have their parts, as the sequence's own have.
size_t KvSequence::adoptable(std::span<const BlockId> found) const {
  if (!windowed()) return found.size();
  const size_t own = blocks_.size();
  size_t most = 0, whole_since = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!pager_->parts().has(found[i])) whole_since = i + 1;
    const auto length = static_cast<int64_t>(own + i + 1) * pager_->block_tokens();
    if (whole_since == 0 || window_begin_at(length) >= own + whole_since) most = i + 1;
  }
  return most;
}

int64_t KvSequence::adopt(std::span<const int32_t> tokens) {
  if (!may_adopt()) return 0;
  const auto size = static_cast<size_t>(pager_->block_tokens());
  std::vector<BlockId> found;
  std::vector<BlockChain> chains;
  for (BlockChain next = *chain_; tokens.size() > size; chains.push_back(next)) {
    const auto block = pager_->find(*next.append(tokens));
    if (!block) break;
    found.push_back(*block);
  }
  found.resize(adoptable(found));
  if (found.empty()) return 0;
  const auto gained = static_cast<int64_t>(found.size() * size);
  length_ += gained;
  chain_ = chains[found.size() - 1];
  slide();
  for (const BlockId block : found) {
    pager_->retain(block);
    if (windowed() && blocks_.size() >= window_begin_) pager_->parts().hold(block);
    blocks_.push_back(block);
  }
  return gained;
}

// Lets go of the parts that the next token does not read any more.
void KvSequence::slide() {
  const size_t begin = window_begin_at(length_);
  for (size_t i = window_begin_; i < std::min(begin, blocks_.size()); ++i) {
    pager_->leave_window(blocks_[i]);
  }
  window_begin_ = begin;
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
  copy.window_begin_ = window_begin_;
  copy.chain_ = chain_;
  for (BlockId block : copy.blocks_) pager_->retain(block);
  for (size_t i = window_begin_; windowed() && i < copy.blocks_.size(); ++i) {
    pager_->parts().hold(copy.blocks_[i]);
  }
  return copy;
}

bool KvSequence::must_copy() const {
  const int64_t size = pager_->block_tokens();
  const auto open = static_cast<size_t>(length_ / size);
  return length_ % size != 0 && !pager_->writable(blocks_[open]);
}

KvNeed KvSequence::to_reserve(int64_t tokens) const {
  const int64_t size = pager_->block_tokens();
  const int64_t more = (tokens + size - 1) / size - static_cast<int64_t>(blocks_.size());
  const int64_t blocks = std::max<int64_t>(0, more) + (tokens > length_ && must_copy() ? 1 : 0);
  return {blocks, windowed() ? blocks : 0};
}

KvNeed KvSequence::to_reach(int64_t tokens) const {
  KvNeed need = to_reserve(tokens);
  if (!windowed()) return need;
  const int64_t held = static_cast<int64_t>(blocks_.size() - window_begin_);
  const int64_t most = pager_->window().most_held(pager_->block_tokens());
  need.parts = std::min(need.parts, std::max<int64_t>(0, most - held) + (must_copy() ? 1 : 0));
  return need;
}

std::optional<BlockCopy> KvSequence::reserve(int64_t tokens) {
  const KvNeed need = to_reserve(tokens);
  if (!need.within(pager_->free())) {
    throw Error(ErrorCode::kOutOfMemory, "a sequence needs " + to_text(need) + " more, and " +
                                             to_text(pager_->free()) + " are free");
  }
  const auto allocate = [&] {
    const BlockId block = pager_->allocate();
    if (windowed()) pager_->parts().assign(block);
    return block;
  };
  std::optional<BlockCopy> copy;
  if (tokens > length_ && must_copy()) {
    BlockId& open = blocks_[static_cast<size_t>(length_ / pager_->block_tokens())];
    copy = {open, allocate()};
    open = copy->to;
  }
  for (int64_t i = copy ? 1 : 0; i < need.blocks; ++i) blocks_.push_back(allocate());
  if (copy) give_back(copy->from);
  return copy;
}

// A block whose part the sequence holds.
void KvSequence::give_back(BlockId block) {
  if (windowed()) pager_->leave_window(block);
  pager_->release(block);
}

void KvSequence::release_all() {
  // The last first: a child is parked before its parent.
  for (size_t i = blocks_.size(); i-- > 0;) {
    i < window_begin_ ? pager_->release(blocks_[i]) : give_back(blocks_[i]);
  }
}

void KvSequence::advance(std::span<const int32_t> tokens) {
  auto full = static_cast<size_t>(length_ / pager_->block_tokens());
  length_ += static_cast<int64_t>(tokens.size());
  while (chain_ && !tokens.empty()) {
    const auto hash = chain_->append(tokens);
    if (!hash) break;
    const auto parent = full == 0 ? std::nullopt : std::optional(blocks_[full - 1]);
    blocks_[full] = pager_->publish(blocks_[full], *hash, parent);
    ++full;
  }
  slide();
}

void KvSequence::settle(std::span<const int32_t> tokens) {
  ahead_ = 0;
  advance(tokens);
  for (; static_cast<int64_t>(blocks_.size()) > blocks_of_length(); blocks_.pop_back()) {
    give_back(blocks_.back());
  }
}

}  // namespace mlxr
