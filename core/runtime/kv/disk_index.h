// Which block lies in which slot of a file of blocks, and which of them goes first when there is no
// room. Knows no files.
//
// Blocks form a tree by the hashes of their parents, as in prefix_index.h; but a parent may be
// missing, because it was damaged or comes later. Only leaves go: a block without its parents is of
// no use. The least recently used leaf goes first, and a parent counts as used when its children
// were: it takes over the tick of a child that goes. So using a prefix is one note, at its last
// block. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/runtime/kv/block_hash.h"

namespace mlxr {

enum class SlotId : int32_t {};

constexpr size_t index_of(SlotId slot) { return static_cast<size_t>(slot); }

struct StoredBlock {
  BlockHash hash;
  std::optional<BlockHash> parent;
  uint64_t tick = 0;      // of its last use
  uint64_t checksum = 0;  // of its bytes
};

class DiskIndex {
 public:
  DiskIndex() = default;
  // What each slot holds. Of two with the same hash the first counts; the other slot is free.
  explicit DiskIndex(std::vector<std::optional<StoredBlock>> slots);

  int32_t slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t blocks() const { return slots() - static_cast<int32_t>(free_.size()); }
  std::optional<SlotId> find(const BlockHash& hash) const;
  const std::optional<StoredBlock>& at(SlotId slot) const { return slots_[index_of(slot)]; }

  std::optional<SlotId> free_slot() const;
  SlotId add_slot();  // one more, free
  // The slot is free, and the hash is in no other.
  void put(SlotId slot, const StoredBlock& block);
  void touch(SlotId slot, uint64_t tick);
  void remove(SlotId slot);
  // What should go first; nothing when there is no block.
  std::optional<SlotId> oldest_leaf() const;
  // Forgets the slots from `count` on, which are free.
  void cut(int32_t count);

 private:
  static constexpr SlotId kNone{-1};
  struct Node {
    SlotId slot = kNone;  // kNone: known from its children only
    int32_t children = 0;
  };
  using Leaf = std::pair<uint64_t, SlotId>;

  std::vector<std::optional<StoredBlock>> slots_;
  std::vector<SlotId> free_;
  std::unordered_map<BlockHash, Node, BlockHash::Hasher> nodes_;
  std::set<Leaf> leaves_;  // by tick
};

}  // namespace mlxr
