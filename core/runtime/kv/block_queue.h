// The order in which KV blocks became idle: the oldest goes first, and any may leave the middle
// when it is used again. All O(1), without an allocation. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "core/runtime/kv/block_id.h"

namespace mlxr {

class BlockQueue {
 public:
  explicit BlockQueue(int32_t blocks) : links_(static_cast<size_t>(blocks)) {}

  // The block, which is not in here, becomes the youngest.
  void push(BlockId block);
  // The block is in here.
  void remove(BlockId block);

  bool contains(BlockId block) const { return link(block).queued; }
  int32_t size() const { return size_; }
  // From the oldest to the youngest; kNoBlock: there is none.
  BlockId oldest() const { return oldest_; }
  BlockId after(BlockId block) const { return link(block).younger; }

 private:
  struct Link {
    BlockId older = kNoBlock, younger = kNoBlock;
    bool queued = false;
  };
  Link& link(BlockId block) { return links_[index_of(block)]; }
  const Link& link(BlockId block) const { return links_[index_of(block)]; }

  std::vector<Link> links_;  // [blocks]
  BlockId oldest_ = kNoBlock, youngest_ = kNoBlock;
  int32_t size_ = 0;
};

}  // namespace mlxr
