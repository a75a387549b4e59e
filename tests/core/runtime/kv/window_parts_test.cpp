// Layers with a sliding window keep no more than it of a sequence, and prefixes are shared all the
// same.
#include "core/runtime/kv/window_parts.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"
#include "core/runtime/engine.h"
#include "core/runtime/kv/kv_plan.h"
#include "tests/core/runtime/kv/block_memory.h"

namespace mlxr {
namespace {

using testing::BlockMemory;
using Ids = std::vector<int32_t>;

constexpr int32_t kBlockTokens = 4;
constexpr KvWindow kWindow{.tokens = 9, .parts = 8, .step_tokens = 8};

struct Arena {
  // A sequence that holds `tokens`, and how many of them were cached.
  KvSequence sequence(const Ids& tokens, std::string_view salt = {}) {
    KvSequence kv(pager, salt);
    gained = kv.adopt(tokens);
    for (auto rest = std::span(tokens).subspan(static_cast<size_t>(gained)); !rest.empty();) {
      const auto step = rest.first(std::min<size_t>(rest.size(), 8));
      memory.append(kv, step);
      rest = rest.subspan(step.size());
    }
    pager.check();
    return kv;
  }
  int64_t held() const { return kWindow.parts - pager.free().parts; }

  Pager pager{100, kBlockTokens, kWindow};
  BlockMemory memory{pager};
  int64_t gained = 0;
};

Ids iota(int32_t count, int32_t first = 0) {
  Ids ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(WindowParts, ALongSequenceHoldsItsWindowAlone) {
  Arena arena;
  KvSequence kv = arena.sequence(iota(100));
  EXPECT_EQ(arena.memory.read(kv), iota(100));
  EXPECT_EQ(kv.blocks().size(), 25u);
  // Positions 92 to 99 are read by the next token.
  EXPECT_EQ(kv.window_begin(), 23u);
  EXPECT_EQ(arena.held(), 2);
  EXPECT_EQ(kv.to_reserve(200).parts, 25);
  EXPECT_EQ(kv.to_reach(200).parts, kWindow.most_held(kBlockTokens) - 2);
  EXPECT_EQ(kv.to_reach(200).blocks, 25);
  KvSequence unshared(arena.pager);
  arena.memory.append(unshared, iota(8));
  arena.memory.append(unshared, iota(8));
  arena.memory.append(unshared, iota(8));
  EXPECT_EQ(arena.held(), 2 + 2);
  arena.pager.check();
}

TEST(WindowParts, APrefixIsSharedWhereItsWindowIsWhole) {
  Arena arena;
  { const KvSequence first = arena.sequence(iota(60)); }
  EXPECT_EQ(arena.held(), 0);
  {
    const KvSequence again = arena.sequence(iota(61));
    EXPECT_EQ(arena.gained, 60);
    EXPECT_EQ(arena.memory.read(again), iota(61));
    // Both hold the same parts.
    const KvSequence twin = arena.sequence(iota(61));
    EXPECT_EQ(arena.gained, 60);
    EXPECT_EQ(arena.held(), 3 + 1);
  }
  // Blocks 9 to 14 are whole, those before are not any more.
  Ids other = iota(48);
  other.push_back(99);
  { const KvSequence branch = arena.sequence(other); }
  EXPECT_EQ(arena.gained, 48);
  other = iota(24);
  other.push_back(98);
  KvSequence recomputed = arena.sequence(other);
  EXPECT_EQ(arena.gained, 0);
  EXPECT_EQ(arena.memory.read(recomputed), other);
}

TEST(WindowParts, WhatIsComputedAgainMakesTheCachedBlockWhole) {
  Arena arena;
  { const KvSequence first = arena.sequence(iota(32)); }
  { const KvSequence other = arena.sequence(iota(40, 1000)); }  // takes all places
  const int32_t cached = arena.pager.cached_blocks();
  KvSequence again = arena.sequence(iota(33));
  EXPECT_EQ(arena.gained, 0);
  EXPECT_EQ(arena.memory.read(again), iota(33));
  EXPECT_EQ(arena.pager.cached_blocks(), cached - 8);  // the blocks are those from before
  const KvSequence third = arena.sequence(iota(33));
  EXPECT_EQ(arena.gained, 32);
}

TEST(WindowParts, AForkSharesTheWindowAndCopiesTheOpenBlock) {
  Arena arena;
  KvSequence a = arena.sequence(iota(30));
  KvSequence b = a.fork();
  EXPECT_EQ(arena.held(), 3);
  EXPECT_EQ(b.to_reach(31).parts, 1);
  arena.memory.append(b, Ids{70});
  arena.memory.append(a, Ids{60});
  EXPECT_EQ(arena.held(), 4);
  Ids expected = iota(30);
  expected.push_back(70);
  EXPECT_EQ(arena.memory.read(b), expected);
  expected.back() = 60;
  EXPECT_EQ(arena.memory.read(a), expected);
  arena.pager.check();
}

TEST(WindowParts, RefusesWhatDoesNotFitAndChangesNothing) {
  Arena arena;
  const KvSequence a = arena.sequence(iota(20)), b = arena.sequence(iota(20, 500));
  KvSequence c(arena.pager, "");
  EXPECT_EQ(arena.pager.free().parts, 4);
  EXPECT_THROW((void)c.reserve(17), Error);
  EXPECT_EQ(arena.pager.free().parts, 4);
  EXPECT_FALSE(c.reserve(16));
  EXPECT_EQ(arena.pager.free().parts, 0);
}

ModelSpec spec_with(std::vector<int32_t> windows) {
  ModelSpec spec;
  spec.layers = static_cast<int32_t>(windows.size());
  spec.kv_heads = 1;
  spec.head_dim = 64;
  spec.context = 32768;
  spec.windows = std::move(windows);
  return spec;
}

TEST(KvPlan, WindowsTakeWhatSequencesOfFullLengthNeed) {
  const std::vector<int32_t> gemma{512, 512, 512, 512, 512, 0};
  const KvPlan all = plan_kv(spec_with({0, 0, 0, 0, 0, 0}), {.memory = int64_t{1} << 40});
  const KvPlan plan = plan_kv(spec_with(gemma), {.memory = int64_t{1} << 40});
  EXPECT_EQ(all.window.parts, 0);
  EXPECT_EQ(plan.blocks, 4 * 1024);
  EXPECT_EQ(plan.window.parts, 1024);  // a quarter: more than four windows
  EXPECT_EQ(plan.shape.window_layers, 5);
  EXPECT_EQ(plan.bytes() * 24, all.bytes() * 9);  // 1/6 and a quarter of 5/6
  // In the bytes that hold one context of all layers, two of this model's.
  const KvPlan same = plan_kv(spec_with(gemma), {.kv_bytes = all.bytes()});
  EXPECT_GT(same.blocks, 2 * all.blocks);
  EXPECT_LE(same.bytes(), all.bytes());
}

TEST(KvPlan, OneSequenceAlwaysFits) {
  for (const int32_t window : {1, 100, 4096, 32767, 32768}) {
    for (const int64_t kib : {16, 64, 1024, 20000, 400000}) {
      for (const int32_t full : {0, window}) {
        const KvPlan plan = plan_kv(spec_with({window, full}), {.kv_bytes = kib << 10});
        SCOPED_TRACE(std::to_string(window) + " " + std::to_string(kib));
        EXPECT_LE(plan.bytes(), kib << 10);
        EXPECT_LE(plan.context, 32768);
        if (window == 32768) {
          EXPECT_EQ(plan.window.tokens, 0);
          EXPECT_EQ(plan.shape.window_layers, 0);
          continue;
        }
        EXPECT_EQ(plan.window.tokens, window);
        const int64_t of_one = plan.window.most_held(32), of_context = (plan.context + 31) / 32;
        EXPECT_GE(plan.window.parts, std::min(of_one, of_context));
        EXPECT_LE(plan.window.parts, plan.blocks);
      }
    }
  }
}

TEST(KvPlan, ASlidingModelsContextIsNotBoundByItsBytes) {
  // Every layer has a window, as in Mistral 7B v0.1: bytes for 6,000 tokens hold longer texts.
  const int64_t per_token = 2 * 64 * 2;
  const KvPlan plan = plan_kv(spec_with({4096}), {.kv_bytes = 6000 * per_token});
  EXPECT_GT(plan.context, 20000);
  EXPECT_LE(plan.bytes(), 6000 * per_token);
}

}  // namespace
}  // namespace mlxr
