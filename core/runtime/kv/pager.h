// Hands out KV blocks by number and counts their users. Knows nothing of what a block holds.
// Not thread-safe: belongs to the one thread that runs an engine.
#pragma once

#include <cstdint>
#include <vector>

namespace mlxr {

using BlockId = int32_t;

class Pager {
 public:
  Pager(int32_t blocks, int32_t block_tokens);

  int32_t block_tokens() const { return block_tokens_; }
  int32_t total_blocks() const { return static_cast<int32_t>(uses_.size()); }
  int32_t free_blocks() const { return static_cast<int32_t>(free_.size()); }

  // A block with one user. Throws Error{kOutOfMemory} when none is free.
  BlockId allocate();
  void retain(BlockId block);
  // Returns the block to the free list when its last user leaves.
  void release(BlockId block);

 private:
  int32_t block_tokens_;
  std::vector<int32_t> uses_;  // [blocks]
  std::vector<BlockId> free_;  // last freed is first reused: its memory is still in the cache
};

// The KV blocks of one sequence: block i holds positions [i*block_tokens, (i+1)*block_tokens).
// Releases them when it is destroyed. Move-only.
class KvSequence {
 public:
  explicit KvSequence(Pager& pager) : pager_(&pager) {}
  ~KvSequence() { clear(); }
  KvSequence(KvSequence&& other) noexcept;
  KvSequence& operator=(KvSequence&& other) noexcept;

  // Makes room for positions below `tokens`. Throws Error{kOutOfMemory} and changes nothing when
  // the pager has too few blocks.
  void reserve(int64_t tokens);
  void clear();

  int64_t length() const { return length_; }           // tokens whose K/V are stored
  void advance(int64_t tokens) { length_ += tokens; }  // called by the engine after a step
  const std::vector<BlockId>& blocks() const { return blocks_; }

 private:
  Pager* pager_;
  std::vector<BlockId> blocks_;
  int64_t length_ = 0;
};

}  // namespace mlxr
