// The identity of KV blocks: a block's hash covers its tokens and, through its parent's hash, every
// token before them and a salt. Equal hashes mean equal keys and values, because a row's result
// depends on nothing but its row (decision 2).
//
// SipHash-2-4 with 128 bits out (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012)
// under a secret key: whoever chooses prompts cannot make two of them collide and so read another
// client's cache, which an unkeyed hash such as xxh3 allows. A block of 32 tokens takes about a
// tenth of a microsecond, so a faster hash would gain nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mlxr {

inline constexpr int32_t kMaxBlockTokens = 32;

struct BlockHash {
  uint64_t low = 0, high = 0;
  bool operator==(const BlockHash&) const = default;
  struct Hasher {
    size_t operator()(const BlockHash& hash) const { return hash.low; }
  };
};

struct HashKey {
  uint64_t low = 0, high = 0;
};

// A key that nobody can guess.
HashKey random_hash_key();

BlockHash siphash128(const HashKey& key, std::span<const std::byte> bytes);

// Hashes a growing sequence of tokens, block by block.
class BlockChain {
 public:
  // `salt` keeps apart what must not be shared: adapters, clients. Throws Error{kInvalidArgument}
  // when `block_tokens` exceeds kMaxBlockTokens.
  BlockChain(const HashKey& key, int32_t block_tokens, std::string_view salt);

  // Takes tokens from the front of `tokens` until the open block is full or none is left. Returns
  // the hash of the block that became full.
  std::optional<BlockHash> append(std::span<const int32_t>& tokens);

 private:
  HashKey key_;
  int32_t block_tokens_;
  int32_t open_count_ = 0;
  BlockHash last_;  // of the last full block; of the salt before there is one
  std::array<int32_t, kMaxBlockTokens> open_{};
};

}  // namespace mlxr
