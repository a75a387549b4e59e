// Finds KV blocks by the hash of what they hold, and decides which cached block goes first.
//
// Every full block of a sharing sequence is published under its chained hash (block_hash.h); the
// published blocks form a tree whose edges are "follows". Invariants:
//  1. A hash names one block. A sequence that fills a block which is published already takes that
//     one instead, so the blocks along a sequence are a path in the tree.
//  2. Whoever uses a block uses its parent: users(parent) >= users(child) for each child.
//  3. A published block that nobody uses is parked: it lies in the eviction order, once.
//  4. In that order a child comes before its parent. Sequences release their last block first, and
//     by 2 a parent is parked after its children; taking a child takes its parent too. So the
//     oldest parked block never has a published child, and the least recently used leaf is found
//     in O(1).
// Publishing, parking, taking and evicting are O(1); finding a prefix is one look-up a block.
// Not thread-safe: belongs to a Pager.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/runtime/kv/block_hash.h"
#include "core/runtime/kv/block_id.h"
#include "core/runtime/kv/block_queue.h"

namespace mlxr {

// What a published block is called, and what it follows.
struct BlockName {
  BlockHash hash;
  std::optional<BlockHash> parent;
};

class PrefixIndex {
 public:
  explicit PrefixIndex(int32_t blocks);

  std::optional<BlockId> find(const BlockHash& hash) const;
  bool published(BlockId block) const { return entries_[index_of(block)].published; }
  std::optional<BlockName> name_of(BlockId block) const;

  // `block` is in use, full and not published; nothing is published under `hash`. `parent` is the
  // block before it.
  void publish(BlockId block, const BlockHash& hash, std::optional<BlockId> parent);
  // The last user of a published block left: it becomes the youngest of the parked ones.
  void park(BlockId block) { parked_.push(block); }
  // A parked block is in use again.
  void take(BlockId block) { parked_.remove(block); }
  // Forgets the block that was parked first; nothing when none is parked.
  std::optional<BlockId> evict();

  int32_t parked() const { return parked_.size(); }
  int32_t size() const { return static_cast<int32_t>(by_hash_.size()); }

  // Throws Error{kInternal} naming the invariant that does not hold. `users` [blocks]: how many
  // sequences hold each block. O(blocks); for tests.
  void check(std::span<const int32_t> users) const;

 private:
  struct Entry {
    BlockHash hash;
    BlockId parent = kNoBlock;
    int32_t children = 0;
    bool published = false;
  };
  Entry& at(BlockId block) { return entries_[index_of(block)]; }

  std::vector<Entry> entries_;  // [blocks]
  std::unordered_map<BlockHash, BlockId, BlockHash::Hasher> by_hash_;
  BlockQueue parked_;  // the eviction order
};

}  // namespace mlxr
