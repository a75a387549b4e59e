// Memory of KV blocks whose keys and values are the tokens themselves, so that a test can read
// through a block table what a sequence would attend to: once for layers without a window, and once
// for those with one, where there are any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/runtime/kv/kv_sequence.h"

namespace mlxr::testing {

class BlockMemory {
 public:
  explicit BlockMemory(const Pager& pager)
      : pager_(&pager),
        block_tokens_(static_cast<size_t>(pager.block_tokens())),
        cells_(static_cast<size_t>(pager.total_blocks()) * block_tokens_, -1),
        window_cells_(static_cast<size_t>(pager.window().parts) * block_tokens_, -1) {}

  // What an engine does with a slice, whose last tokens are `proposed`.
  void append(KvSequence& kv, std::span<const int32_t> tokens, size_t proposed = 0) {
    const auto begin = static_cast<size_t>(kv.length() + kv.ahead());
    if (const auto copy = kv.reserve(static_cast<int64_t>(begin + tokens.size()))) {
      std::vector<std::byte> block(static_cast<size_t>(block_bytes()));
      save(copy->from, block);
      load(copy->to, block);
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      const BlockId block = kv.blocks()[(begin + i) / block_tokens_];
      cells(block)[(begin + i) % block_tokens_] = tokens[i];
      if (windowed()) window_cells(block)[(begin + i) % block_tokens_] = tokens[i];
    }
    if (tokens.size() > proposed) kv.advance(tokens.first(tokens.size() - proposed));
    kv.run_ahead(static_cast<int64_t>(proposed));
  }

  // Those ahead included. A token that layers with a window would read otherwise is -2.
  std::vector<int32_t> read(const KvSequence& kv) const {
    std::vector<int32_t> tokens;
    const int64_t seen = windowed() ? kv.length() - pager_->window().tokens + 1 : 0;
    for (int64_t i = 0; i < kv.length() + kv.ahead(); ++i) {
      const auto at = static_cast<size_t>(i);
      const BlockId block = kv.blocks()[at / block_tokens_];
      int32_t token = cells_[first(block) + at % block_tokens_];
      if (windowed() && i >= seen && window_token(block, at % block_tokens_) != token) token = -2;
      tokens.push_back(token);
    }
    return tokens;
  }

  int64_t block_bytes() const {
    return static_cast<int64_t>(block_tokens_ * sizeof(int32_t)) * (windowed() ? 2 : 1);
  }
  void save(BlockId block, std::span<std::byte> to) const {
    const size_t bytes = block_tokens_ * sizeof(int32_t);
    std::memcpy(to.data(), &cells_[first(block)], bytes);
    if (windowed()) std::memcpy(&to[bytes], &window_cells_[window_first(block)], bytes);
  }
  void load(BlockId block, std::span<const std::byte> from) {
    const size_t bytes = block_tokens_ * sizeof(int32_t);
    std::memcpy(cells(block), from.data(), bytes);
    if (windowed()) std::memcpy(window_cells(block), &from[bytes], bytes);
  }

 private:
  bool windowed() const { return pager_->window().tokens > 0; }
  size_t first(BlockId block) const { return index_of(block) * block_tokens_; }
  size_t window_first(BlockId block) const {
    return static_cast<size_t>(pager_->parts().of(block)) * block_tokens_;
  }
  int32_t window_token(BlockId block, size_t i) const {
    return pager_->parts().has(block) ? window_cells_[window_first(block) + i] : -1;
  }
  int32_t* cells(BlockId block) { return &cells_[first(block)]; }
  int32_t* window_cells(BlockId block) { return &window_cells_[window_first(block)]; }

  const Pager* pager_;
  size_t block_tokens_;
  std::vector<int32_t> cells_;         // [blocks, block_tokens]
  std::vector<int32_t> window_cells_;  // [parts, block_tokens]
};

}  // namespace mlxr::testing
