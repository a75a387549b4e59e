// Memory of KV blocks whose keys and values are the tokens themselves, so that a test can read
// through a block table what a sequence would attend to.
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
  BlockMemory(int32_t blocks, int32_t block_tokens)
      : block_tokens_(static_cast<size_t>(block_tokens)),
        cells_(static_cast<size_t>(blocks) * block_tokens_, -1) {}

  // What an engine does with a slice, whose last tokens are `proposed`.
  void append(KvSequence& kv, std::span<const int32_t> tokens, size_t proposed = 0) {
    const auto begin = static_cast<size_t>(kv.length() + kv.ahead());
    if (const auto copy = kv.reserve(static_cast<int64_t>(begin + tokens.size()))) {
      for (size_t i = 0; i < block_tokens_; ++i) cell(copy->to, i) = cell(copy->from, i);
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      cell(kv.blocks()[(begin + i) / block_tokens_], (begin + i) % block_tokens_) = tokens[i];
    }
    if (tokens.size() > proposed) kv.advance(tokens.first(tokens.size() - proposed));
    kv.run_ahead(static_cast<int64_t>(proposed));
  }

  // Those ahead included.
  std::vector<int32_t> read(const KvSequence& kv) const {
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < static_cast<size_t>(kv.length() + kv.ahead()); ++i) {
      tokens.push_back(
          cells_[index_of(kv.blocks()[i / block_tokens_]) * block_tokens_ + i % block_tokens_]);
    }
    return tokens;
  }

  int64_t block_bytes() const { return static_cast<int64_t>(block_tokens_ * sizeof(int32_t)); }
  void save(BlockId block, std::span<std::byte> to) const {
    std::memcpy(to.data(), &cells_[index_of(block) * block_tokens_], to.size());
  }
  void load(BlockId block, std::span<const std::byte> from) {
    std::memcpy(&cell(block, 0), from.data(), from.size());
  }

 private:
  int32_t& cell(BlockId block, size_t i) { return cells_[index_of(block) * block_tokens_ + i]; }

  size_t block_tokens_;
  std::vector<int32_t> cells_;  // [blocks, block_tokens]
};

}  // namespace mlxr::testing
