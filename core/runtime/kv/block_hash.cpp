#include "core/runtime/kv/block_hash.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <string>

#include "core/base/error.h"

namespace mlxr {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie");

uint64_t load_word(std::span<const std::byte> bytes) {
  uint64_t word = 0;
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(&word, 1)).begin());
  return word;
}

struct SipState {
  uint64_t v0, v1, v2, v3;

  explicit SipState(const HashKey& key)
      : v0(key.low ^ 0x736f6d6570736575ull),
        v1(key.high ^ 0x646f72616e646f6dull ^ 0xee),
        v2(key.low ^ 0x6c7967656e657261ull),
        v3(key.high ^ 0x7465646279746573ull) {}

  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      v0 += v1;
      v2 += v3;
      v1 = std::rotl(v1, 13) ^ v0;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 = std::rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = std::rotl(v1, 17) ^ v2;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 = std::rotl(v2, 32);
    }
  }
  void word(uint64_t m) {
    v3 ^= m;
    rounds(2);
    v0 ^= m;
  }
  uint64_t out() const { return v0 ^ v1 ^ v2 ^ v3; }
};

}  // namespace

HashKey random_hash_key() {
  std::random_device device;
  const auto word = [&] { return uint64_t{device()} << 32 | device(); };
  return {word(), word()};
}

BlockHash siphash128(const HashKey& key, std::span<const std::byte> bytes) {
  SipState state(key);
  const uint64_t length = bytes.size();
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) state.word(load_word(bytes.first<8>()));
  state.word(load_word(bytes) | length << 56);
  BlockHash hash;
  state.v2 ^= 0xee;
  state.rounds(4);
  hash.low = state.out();
  state.v1 ^= 0xdd;
  state.rounds(4);
  hash.high = state.out();
  return hash;
}

BlockChain::BlockChain(const HashKey& key, int32_t block_tokens, std::string_view salt)
    : key_(key), block_tokens_(block_tokens) {
  if (block_tokens < 1 || block_tokens > kMaxBlockTokens) {
    throw Error(ErrorCode::kInvalidArgument, "KV blocks of " + std::to_string(block_tokens) +
                                                 " tokens are not supported; at most " +
                                                 std::to_string(kMaxBlockTokens) + " are");
  }
  last_ = siphash128(key, std::as_bytes(std::span(salt)));
}

std::optional<BlockHash> BlockChain::append(std::span<const int32_t>& tokens) {
  const auto room = static_cast<size_t>(block_tokens_ - open_count_);
  const size_t count = std::min(room, tokens.size());
  std::copy_n(tokens.begin(), count, open_.begin() + open_count_);
  open_count_ += static_cast<int32_t>(count);
  tokens = tokens.subspan(count);
  if (open_count_ < block_tokens_) return std::nullopt;

  std::array<std::byte, sizeof(BlockHash) + sizeof(open_)> message{};
  const size_t open_bytes = static_cast<size_t>(block_tokens_) * sizeof(int32_t);
  std::memcpy(message.data(), &last_, sizeof last_);
  std::memcpy(message.data() + sizeof last_, open_.data(), open_bytes);
  last_ = siphash128(key_, std::span(message).first(sizeof last_ + open_bytes));
  open_count_ = 0;
  return last_;
}

}  // namespace mlxr
