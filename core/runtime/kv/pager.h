// Hands out KV blocks by number and counts their users. Knows nothing of what a block holds but its
// hash: full blocks of sharing sequences stay findable in a PrefixIndex, also when nobody uses
// them, until their room is needed. Where layers have a sliding window, what those keep of a block
// comes and goes apart from it (window_parts.h).
// Not thread-safe: belongs to the one thread that runs an engine.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/runtime/kv/prefix_index.h"
#include "core/runtime/kv/window_parts.h"

namespace mlxr {

// What is to be allocated.
struct KvNeed {
  int64_t blocks = 0;
  int64_t parts = 0;  // of blocks, for layers with a window; 0 where there are none

  KvNeed& operator+=(const KvNeed& more) {
    blocks += more.blocks;
    parts += more.parts;
    return *this;
  }
  friend KvNeed operator-(KvNeed a, const KvNeed& b) {
    a.blocks -= b.blocks;
    a.parts -= b.parts;
    return a;
  }
  bool within(const KvNeed& limit) const { return blocks <= limit.blocks && parts <= limit.parts; }
};

// "3 KV blocks", with the window parts where there are any.
std::string to_text(const KvNeed& need);

class Pager {
 public:
  Pager(int32_t blocks, int32_t block_tokens, const KvWindow& window = {});

  int32_t block_tokens() const { return block_tokens_; }
  int32_t total_blocks() const { return static_cast<int32_t>(uses_.size()); }
  // What allocate() can still give: empty blocks, and cached ones that nobody uses.
  int32_t free_blocks() const { return static_cast<int32_t>(free_.size()) + cached_blocks(); }
  KvNeed free() const { return {free_blocks(), parts_.free()}; }
  // Of the layers that have one; tokens is 0 where none has.
  const KvWindow& window() const { return window_; }
  // Blocks that nobody uses and that a prompt may find again.
  int32_t cached_blocks() const { return index_.parked(); }
  // Cached blocks that were forgotten for their room.
  uint64_t evictions() const { return evictions_; }
  // One user, not findable: its user may write to it.
  bool writable(BlockId block) const {
    return uses_[index_of(block)] == 1 && !index_.published(block);
  }

  // A block with one user; evicts when none is empty. Throws Error{kOutOfMemory} when all are used.
  BlockId allocate();
  void retain(BlockId block);
  // When its last user leaves, a published block stays cached; another returns to the free list.
  void release(BlockId block);

  // The published block with this hash.
  std::optional<BlockId> find(const BlockHash& hash) const { return index_.find(hash); }
  // Makes a block that its one user has filled findable. When a twin was faster, releases `block`
  // and returns the twin's, retained: the bits are the same.
  BlockId publish(BlockId block, const BlockHash& hash, std::optional<BlockId> parent);

  // What the layers with a window keep of blocks: whoever allocates a block gives it a part, and
  // holds that.
  WindowParts& parts() { return parts_; }
  const WindowParts& parts() const { return parts_; }
  // A sequence that has the block holds its part no longer. Where nobody can find the block, the
  // part's place is empty then.
  void leave_window(BlockId block);
  // Every layer has what it keeps of the block.
  bool whole(BlockId block) const { return window_.tokens == 0 || parts_.has(block); }

  // Absent while a block is not published.
  std::optional<BlockName> name_of(BlockId block) const { return index_.name_of(block); }
  // Is called for each block that was published, which nobody writes to any more while its name is
  // the same. Null: nobody is told.
  void on_publish(std::function<void(BlockId)> observer) { observer_ = std::move(observer); }

  BlockChain new_chain(std::string_view salt) const { return {key_, block_tokens_, salt}; }
  // Blocks that were named under this key are found again (kv_identity.h); without it, names mean
  // nothing to another pager. Before there is any sequence.
  void use_key(const HashKey& key) { key_ = key; }

  // Throws Error{kInternal} when an invariant of prefix_index.h, or the count of blocks, is broken.
  void check() const;

 private:
  int32_t block_tokens_;
  KvWindow window_;
  HashKey key_ = random_hash_key();
  std::vector<int32_t> uses_;  // [blocks]
  std::vector<BlockId> free_;  // last freed is first reused: its memory is still in the cache
  PrefixIndex index_;
  WindowParts parts_;
  std::function<void(BlockId)> observer_;
  uint64_t evictions_ = 0;
};

}  // namespace mlxr
