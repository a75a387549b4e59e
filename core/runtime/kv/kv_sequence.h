// The KV blocks of one sequence: block i holds positions [i*block_tokens, (i+1)*block_tokens).
// Releases them when it is destroyed.
//
// Tokens that were only proposed (spec/proposal.h) are stored ahead of the sequence's length: they
// are attended to, but not published, and settle() keeps those that were right.
//
// Where layers have a window, the sequence holds the window parts (window_parts.h) of the blocks
// that the next token's window reaches and of those behind, and lets go of them as it moves on.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/runtime/kv/pager.h"

namespace mlxr {

// What `to` must hold before it is written to.
struct BlockCopy {
  BlockId from, to;
};

// Move-only; fork() is the copy.
class KvSequence {
 public:
  // A private sequence: its blocks are never found by others, nor theirs by it.
  explicit KvSequence(Pager& pager) : pager_(&pager) {}
  // A sharing one, with those of the same salt.
  KvSequence(Pager& pager, std::string_view salt) : pager_(&pager), chain_(pager.new_chain(salt)) {}
  ~KvSequence() { release_all(); }
  KvSequence(KvSequence&& other) noexcept;
  KvSequence& operator=(KvSequence&& other) noexcept;

  // Takes over cached blocks that hold what comes next, `tokens`; at least one of them is left to
  // be computed, so that there are logits, and the next token finds its window. Returns the number
  // of tokens gained. Does nothing inside a block, or in a private sequence.
  int64_t adopt(std::span<const int32_t> tokens);

  // What adopt() would look for, `most` blocks of it.
  std::vector<BlockHash> next_names(std::span<const int32_t> tokens, size_t most) const;
  // Takes the block that holds the first of `tokens`, whose keys and values `fill` writes, and
  // publishes it. Only where adopt() may take one; throws Error{kOutOfMemory} as reserve() does.
  void restore(std::span<const int32_t> tokens, const std::function<void(BlockId)>& fill);

  // The same tokens in the same blocks, without those ahead. Whoever writes first to a shared open
  // block copies it.
  KvSequence fork() const;

  // What reserve(tokens) would take.
  KvNeed to_reserve(int64_t tokens) const;
  // What it takes to come there in steps of the window's step_tokens, which give back what leaves
  // it.
  KvNeed to_reach(int64_t tokens) const;
  // Makes room for positions below `tokens`, and the open block writable. Throws
  // Error{kOutOfMemory} and changes nothing when the pager has too few blocks. The caller copies
  // what is returned before anything else is reserved.
  [[nodiscard]] std::optional<BlockCopy> reserve(int64_t tokens);

  int64_t length() const { return length_; }  // tokens whose K/V are stored, but those ahead
  int64_t ahead() const { return ahead_; }    // proposed tokens that are stored behind them
  // Called by the engine after a step that stored these. Publishes the blocks that became full.
  // Nothing is ahead.
  void advance(std::span<const int32_t> tokens);
  // Called by the engine after a step that stored this many proposed tokens.
  void run_ahead(int64_t tokens) { ahead_ += tokens; }
  // Keeps the first of the tokens ahead, these, and gives the blocks of the others back.
  void settle(std::span<const int32_t> tokens);
  const std::vector<BlockId>& blocks() const { return blocks_; }
  // The first of blocks() that has a part for the layers with a window.
  size_t window_begin() const { return window_begin_; }
  // Hashes what is stored; absent in a private sequence.
  const std::optional<BlockChain>& chain() const { return chain_; }

 private:
  int64_t blocks_of_length() const;
  bool windowed() const;
  size_t window_begin_at(int64_t length) const;
  bool may_adopt() const;
  size_t adoptable(std::span<const BlockId> found) const;
  void slide();
  void give_back(BlockId block);
  bool must_copy() const;
  void release_all();

  Pager* pager_;
  std::vector<BlockId> blocks_;
  size_t window_begin_ = 0;  // 0 without windows
  int64_t length_ = 0, ahead_ = 0;
  std::optional<BlockChain> chain_;
};

}  // namespace mlxr
