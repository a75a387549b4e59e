// Sequences that share, fork and outgrow a small arena always read their own tokens through their
// block tables, and no block is lost.
#include "core/runtime/kv/kv_sequence.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <random>

#include "core/base/error.h"
#include "tests/core/runtime/kv/block_memory.h"

namespace mlxr {
namespace {

using testing::BlockMemory;
using Ids = std::vector<int32_t>;

Ids iota(int32_t count, int32_t first = 0) {
  Ids ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(first + i);
  return ids;
}

struct Arena {
  explicit Arena(int32_t blocks, int32_t block_tokens = 4, const KvWindow& window = {})
      : pager(blocks, block_tokens, window), memory(pager) {}

  // A sequence that holds `tokens`, and how many of them were cached.
  KvSequence sequence(const Ids& tokens, std::string_view salt = {}) {
    KvSequence kv(pager, salt);
    gained = kv.adopt(tokens);
    memory.append(kv, std::span(tokens).subspan(static_cast<size_t>(gained)));
    return kv;
  }
  Pager pager;
  BlockMemory memory;
  int64_t gained = 0;
};

TEST(BlockHash, IsSipHash) {
  // Vectors of the authors' reference program: key 00..0f, messages "", 00, 00 01, ...
  const HashKey key{0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
  std::vector<std::byte> message;
  const std::vector<BlockHash> expected = {{0xe6a825ba047f81a3ull, 0x930255c71472f66dull},
                                           {0x44af996bd8c187daull, 0x45fc229b11597634ull},
                                           {0xc75da4a48d227781ull, 0xe4ff0af6de8ba3fcull}};
  for (const BlockHash& hash : expected) {
    EXPECT_EQ(siphash128(key, message), hash);
    message.push_back(static_cast<std::byte>(message.size()));
  }
}

TEST(BlockHash, DependsOnEveryTokenBeforeItAndOnTheSalt) {
  const HashKey key = random_hash_key();
  const auto second_block = [&](Ids tokens, std::string_view salt) {
    BlockChain chain(key, 4, salt);
    std::span<const int32_t> rest(tokens);
    std::optional<BlockHash> hash;
    while (!rest.empty()) hash = chain.append(rest);
    return hash.value();
  };
  const Ids tokens = iota(8);
  const BlockHash hash = second_block(tokens, "a");
  EXPECT_EQ(second_block(tokens, "a"), hash);
  EXPECT_NE(second_block(tokens, "b"), hash);
  for (size_t i = 0; i < tokens.size(); ++i) {
    Ids other = tokens;
    other[i] += 1;
    EXPECT_NE(second_block(other, "a"), hash) << i;
  }
}

TEST(KvSequence, FindsFullBlocksOfOthersAndLeavesATokenToCompute) {
  Arena arena(16);
  const KvSequence first = arena.sequence(iota(10));
  EXPECT_EQ(arena.gained, 0);
  arena.sequence(iota(10));  // the open block is not shared
  EXPECT_EQ(arena.gained, 8);
  arena.sequence(iota(8));  // its second block is cached, but there would be no logits
  EXPECT_EQ(arena.gained, 4);
  arena.sequence(iota(9));
  EXPECT_EQ(arena.gained, 8);
  arena.sequence(iota(10), "another client");
  EXPECT_EQ(arena.gained, 0);
  Ids other = iota(10);
  other[5] = 99;
  arena.sequence(other);
  EXPECT_EQ(arena.gained, 4);
  KvSequence unshared(arena.pager);
  EXPECT_EQ(unshared.adopt(iota(10)), 0);
  arena.pager.check();
}

TEST(KvSequence, TwinsThatFillABlockAtTheSameTimeShareItFromThenOn) {
  Arena arena(16);
  KvSequence a(arena.pager, ""), b(arena.pager, "");
  arena.memory.append(a, iota(6));
  arena.memory.append(b, iota(6));
  EXPECT_EQ(a.blocks()[0], b.blocks()[0]);
  EXPECT_NE(a.blocks()[1], b.blocks()[1]);
  EXPECT_EQ(arena.pager.free_blocks(), 16 - 3);
  arena.memory.append(a, iota(2, 6));
  arena.memory.append(b, iota(2, 6));
  EXPECT_EQ(a.blocks(), b.blocks());
  EXPECT_EQ(arena.pager.free_blocks(), 16 - 2);
  arena.pager.check();
}

TEST(KvSequence, AForkCopiesTheOpenBlockWhenItWrites) {
  Arena arena(16);
  KvSequence a = arena.sequence(iota(6));
  KvSequence b = a.fork();
  EXPECT_EQ(arena.pager.free_blocks(), 16 - 2);
  EXPECT_EQ(b.to_reserve(7).blocks, 1);
  arena.memory.append(b, Ids{70});
  EXPECT_EQ(a.to_reserve(7).blocks, 0);  // nobody else is left in it
  arena.memory.append(a, Ids{60});
  Ids expected = iota(6);
  expected.push_back(70);
  EXPECT_EQ(arena.memory.read(b), expected);
  expected.back() = 60;
  EXPECT_EQ(arena.memory.read(a), expected);
  EXPECT_EQ(a.blocks()[0], b.blocks()[0]);
  arena.pager.check();
}

TEST(KvSequence, TokensAheadAreReadButNotPublishedUntilTheyAreSettled) {
  Arena arena(16);
  KvSequence a = arena.sequence(iota(6));
  arena.memory.append(a, iota(7, 6), 6);  // one is sure
  EXPECT_EQ(a.length(), 7);
  EXPECT_EQ(a.ahead(), 6);
  arena.memory.append(a, iota(1, 13), 1);
  EXPECT_EQ(arena.memory.read(a), iota(14));
  EXPECT_EQ(a.blocks().size(), 4u);
  {
    KvSequence other(arena.pager, "");
    EXPECT_EQ(other.adopt(iota(14)), 4);
    const KvSequence fork = a.fork();
    EXPECT_EQ(arena.memory.read(fork), iota(7));
  }
  const int32_t free = arena.pager.free_blocks();
  a.settle(iota(2, 7));
  EXPECT_EQ(a.length(), 9);
  EXPECT_EQ(a.ahead(), 0);
  EXPECT_EQ(arena.memory.read(a), iota(9));
  EXPECT_EQ(a.blocks().size(), 3u);
  EXPECT_EQ(arena.pager.free_blocks(), free + 1);
  arena.sequence(iota(14));
  EXPECT_EQ(arena.gained, 8);
  arena.pager.check();
  arena.memory.append(a, Ids{90, 91}, 1);
  a.settle({});
  Ids expected = iota(9);
  expected.push_back(90);
  EXPECT_EQ(arena.memory.read(a), expected);
  arena.pager.check();
}

TEST(KvSequence, TheLeastRecentlyUsedLeafGoesFirst) {
  Arena arena(6);
  arena.sequence(iota(13));      // three full blocks are cached
  arena.sequence(iota(5, 100));  // and one
  arena.sequence(iota(9));       // uses two of the first three again
  EXPECT_EQ(arena.pager.cached_blocks(), 4);
  EXPECT_EQ(arena.pager.free_blocks(), 6);
  { const KvSequence kv = arena.sequence(iota(11, 200)); }  // two empty ones, one evicted
  EXPECT_EQ(arena.pager.evictions(), 1u);
  arena.sequence(iota(13));  // the leaf is gone; this puts it back, evicting 100...
  EXPECT_EQ(arena.gained, 8);
  arena.sequence(iota(5, 100));
  EXPECT_EQ(arena.gained, 0);
  arena.pager.check();
}

TEST(KvSequence, RefusesWhatDoesNotFitAndChangesNothing) {
  Arena arena(2);
  KvSequence a = arena.sequence(iota(7));
  KvSequence b = a.fork();
  EXPECT_THROW(arena.memory.append(b, Ids{1}), Error);  // no room for the copy
  EXPECT_EQ(arena.memory.read(b), iota(7));
  EXPECT_EQ(a.blocks(), b.blocks());
  KvSequence c(arena.pager, "");
  EXPECT_THROW((void)c.reserve(1), Error);
  arena.pager.check();
}

TEST(KvSequence, RandomFamiliesReadTheirOwnTokensAndLeakNothing) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
    const int32_t blocks = 6 + below(40), block_tokens = 2 + below(5);
    KvWindow window;  // of two in three
    if (seed % 3 != 0) window = {.tokens = 1 + below(30), .parts = 6 + below(40)};
    Arena arena(blocks, block_tokens, window);
    struct Member {
      KvSequence kv;
      Ids tokens;
    };
    std::vector<Member> family;
    int64_t gained = 0;
    for (int i = 0; i < 1500; ++i) {
      const int32_t what = below(10);
      if (what < 3 || family.empty()) {  // an alphabet of two makes many common prefixes
        Member m{below(8) == 0 ? KvSequence(arena.pager)
                               : KvSequence(arena.pager, below(4) == 0 ? "x" : ""),
                 {}};
        for (int32_t n = below(40); n >= 0; --n) m.tokens.push_back(below(2));
        gained += m.kv.adopt(m.tokens);
        const auto rest = std::span(m.tokens).subspan(static_cast<size_t>(m.kv.length()));
        if (m.kv.to_reserve(static_cast<int64_t>(m.tokens.size())).within(arena.pager.free())) {
          arena.memory.append(m.kv, rest);
          family.push_back(std::move(m));
        }
      } else {
        Member& m = family[random() % family.size()];
        if (what < 6) {
          const Ids more = {below(2), below(2), below(2)};
          if (m.kv.to_reserve(m.kv.length() + 3).within(arena.pager.free())) {
            arena.memory.append(m.kv, more);
            m.tokens.insert(m.tokens.end(), more.begin(), more.end());
          }
        } else if (what < 8) {
          Member copy{m.kv.fork(), m.tokens};
          family.push_back(std::move(copy));
        } else {
          std::swap(m, family.back());
          family.pop_back();
        }
      }
      ASSERT_NO_THROW(arena.pager.check()) << "seed " << seed << ", operation " << i;
      for (const Member& m : family) ASSERT_EQ(arena.memory.read(m.kv), m.tokens) << seed;
    }
    EXPECT_GT(gained, 0);
    EXPECT_GT(arena.pager.evictions(), 0u);
    family.clear();
    EXPECT_EQ(arena.pager.free_blocks(), blocks);
    EXPECT_EQ(arena.pager.free().parts, window.parts);
    arena.pager.check();
  }
}

// Not a bound, a figure to read: what the index costs a long prompt.
TEST(KvSequence, SaysWhatAnIndexOperationTakes) {
  constexpr int32_t kTokens = 4096, kBlocks = kTokens / 32;
  Pager pager(4 * kBlocks, 32);
  const Ids prompt = iota(kTokens + 1);
  using Clock = std::chrono::steady_clock;
  std::chrono::duration<double, std::micro> publish{1e9}, match{1e9}, release{1e9};
  for (int i = 0; i < 50; ++i) {
    const std::string salt = std::to_string(i);
    {
      KvSequence writer(pager, salt);
      (void)writer.reserve(kTokens);
      const auto begin = Clock::now();
      writer.advance(std::span(prompt).first(kTokens));
      publish = std::min<decltype(publish)>(publish, Clock::now() - begin);
    }
    KvSequence reader(pager, salt);
    const auto begin = Clock::now();
    ASSERT_EQ(reader.adopt(prompt), kTokens);
    match = std::min<decltype(match)>(match, Clock::now() - begin);
    const auto adopted = Clock::now();
    { const KvSequence gone = std::move(reader); }
    release = std::min<decltype(release)>(release, Clock::now() - adopted);
  }
  std::printf("a prompt of 4096 tokens: %.1f us to publish, %.1f us to match, %.1f us to release\n",
              publish.count(), match.count(), release.count());
  pager.check();
}

}  // namespace
}  // namespace mlxr
