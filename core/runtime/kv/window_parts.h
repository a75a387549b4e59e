// What the layers with a sliding window keep of KV blocks. They read the last positions of a
// sequence alone, so they have an arena of their own, of fewer places, and a block has one of them,
// its window part, only as long as somebody may read it:
//  1. A block that lies in the window of a sequence is held by it and has a part.
//  2. A part that nobody holds is idle. It stays with its block, so that a prompt may go on behind
//     it, until another block needs the place: the one that became idle first goes.
// The other layers keep the whole block, found by its BlockId (pager.h).
// Everything is O(1). Not thread-safe: belongs to a Pager.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/runtime/kv/block_id.h"
#include "core/runtime/kv/block_queue.h"

namespace mlxr {

// Of a model's layers with a sliding window; where they differ, the widest.
struct KvWindow {
  int32_t tokens = 0;  // positions that a query sees, itself included; 0: no layer has a window
  int32_t parts = 0;   // places in the arena
  // That a sequence goes on by at most in one step: what it reads and what it writes lies in the
  // arena at the same time.
  int32_t step_tokens = 512;

  // What a sequence holds at most, at any length.
  int64_t most_held(int64_t block_tokens) const {
    return (tokens + step_tokens + block_tokens - 1) / block_tokens + 2;
  }
};

class WindowParts {
 public:
  // Without windows, window.parts is 0, and no block has a part.
  WindowParts(const KvWindow& window, int32_t blocks);

  bool has(BlockId block) const { return !entries_.empty() && at(block).part >= 0; }
  bool held(BlockId block) const { return at(block).holders > 0; }
  // The part's place in the arena; the block has one.
  int32_t of(BlockId block) const { return at(block).part; }
  // What assign() can still give: empty places and idle ones.
  int32_t free() const { return static_cast<int32_t>(empty_.size()) + idle_.size(); }

  // The block, which has none, gets a part that one sequence holds. Throws Error{kOutOfMemory}
  // when free() is 0.
  void assign(BlockId block);
  // One sequence more holds the part that the block has.
  void hold(BlockId block);
  void let_go(BlockId block);
  // The block is forgotten; nobody holds its part.
  void drop(BlockId block);
  // The only holder of `from` goes on with `to`, which has the same content, and the part of
  // whichever has one.
  void merge(BlockId from, BlockId to);

  // Throws Error{kInternal} naming what is wrong. `users` [blocks]: how many sequences have each
  // block. O(blocks); for tests.
  void check(std::span<const int32_t> users) const;

 private:
  struct Entry {
    int32_t part = -1, holders = 0;
  };
  Entry& at(BlockId block) { return entries_[index_of(block)]; }
  const Entry& at(BlockId block) const { return entries_[index_of(block)]; }

  int32_t parts_;
  std::vector<Entry> entries_;  // [blocks]
  std::vector<int32_t> empty_;  // last freed is first reused
  BlockQueue idle_;
};

}  // namespace mlxr
