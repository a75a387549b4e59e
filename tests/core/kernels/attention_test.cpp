// Attention over a paged arena against a plain float64 version, for every head size, group, window,
// soft cap, sink, KV type and block size; and the contract that a query's bits depend on its own
// sequence alone. scripts/test.sh runs it at every SIMD level.
#include "core/kernels/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/core/kernels/attention_sequence.h"

namespace mlxr {
namespace {

using testing::describe;
using testing::Floats;
using testing::Sequence;
using Case = testing::AttentionCase;

// One head's result for one query in float64, over what is stored or what was given.
std::vector<double> reference(const Case& c, const Sequence& s, int64_t position, int32_t head,
                              bool stored) {
  const int32_t kv_head = head / c.group;
  const auto number = [&](bool key, int64_t t, int64_t i) {
    const Floats& given = key ? s.k : s.v;
    return stored ? s.number(key, t, kv_head, i)
                  : double{given[static_cast<size_t>(t * c.kv_width() + kv_head * c.dim + i)]};
  };
  const int64_t first = c.window > 0 ? std::max<int64_t>(0, position - c.window + 1) : 0;
  std::vector<double> scores;
  double most = c.sinks ? s.sinks[static_cast<size_t>(head)] : -INFINITY;
  for (int64_t t = first; t <= (c.causal ? position : c.tokens - 1); ++t) {
    double dot = 0;
    for (int64_t i = 0; i < c.dim; ++i) {
      dot += double{s.q[static_cast<size_t>(position * c.width() + head * c.dim + i)]} *
             number(true, t, i);
    }
    dot *= c.scale;
    if (c.soft_cap > 0) dot = c.soft_cap * std::tanh(dot / c.soft_cap);
    scores.push_back(dot);
    most = std::max(most, dot);
  }
  double sum = c.sinks ? std::exp(s.sinks[static_cast<size_t>(head)] - most) : 0;
  std::vector<double> out(static_cast<size_t>(c.dim), 0.0);
  for (size_t t = 0; t < scores.size(); ++t) {
    const double weight = std::exp(scores[t] - most);
    sum += weight;
    for (int64_t i = 0; i < c.dim; ++i) {
      out[static_cast<size_t>(i)] += weight * number(false, first + static_cast<int64_t>(t), i);
    }
  }
  for (double& x : out) x /= sum;
  return out;
}

// Some queries of every kind: the first, those around boundaries, the last.
std::vector<int64_t> probes(int64_t tokens) {
  std::vector<int64_t> out;
  for (int64_t t : {0, 1, 15, 16, 31, 32, 63, 64, 127, 128, 511, 512, 513}) {
    if (t < tokens) out.push_back(t);
  }
  out.push_back(tokens - 1);
  return out;
}

void expect_near_reference(const Case& c, double tolerance, bool stored = true) {
  const Sequence s(c);
  ThreadPool pool(1);
  const Floats out = s.attend_all(c.tokens, pool);
  for (const int64_t t : probes(c.tokens)) {
    for (int32_t h = 0; h < c.heads(); ++h) {
      const std::vector<double> expected = reference(c, s, t, h, stored);
      for (int64_t i = 0; i < c.dim; ++i) {
        ASSERT_NEAR(out[static_cast<size_t>(t * c.width() + h * c.dim + i)],
                    expected[static_cast<size_t>(i)], tolerance)
            << describe(c) << " position " << t << " head " << h << " element " << i;
      }
    }
  }
}

TEST(Attention, MatchesFloat64ForEveryHeadSize) {
  for (int32_t dim : {8, 16, 24, 40, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
    for (const KvTypeName& type : kKvTypes) {
      for (int32_t block : {16, 32}) {
        expect_near_reference({.dim = dim, .block_tokens = block, .type = type.type}, 3e-6);
      }
    }
  }
}

TEST(Attention, MatchesFloat64ForEveryGroup) {
  for (int32_t group = 1; group <= 8; ++group) {
    for (KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8_0}) {
      expect_near_reference({.group = group, .tokens = 150, .type = type}, 3e-6);
    }
  }
}

// One query, as decode has it, at the end of a sequence.
TEST(Attention, DecodeMatchesFloat64ForEveryTypeHeadSizeAndGroup) {
  ThreadPool one(1);
  for (const KvTypeName& type : kKvTypes) {
    for (int32_t dim : {8, 40, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
      for (int32_t group : {1, 3, 7, 8, 12}) {
        const Case c{.kv_heads = 1, .group = group, .dim = dim, .tokens = 150, .type = type.type};
        const Sequence s(c);
        const Floats out = s.attend(c.tokens - 1, 1, one);
        for (int32_t h = 0; h < c.heads(); h += 1 + group / 3) {
          const std::vector<double> expected = reference(c, s, c.tokens - 1, h, true);
          for (int64_t i = 0; i < dim; ++i) {
            ASSERT_NEAR(out[static_cast<size_t>(h * dim + i)], expected[static_cast<size_t>(i)],
                        3e-6)
                << describe(c) << " head " << h << " element " << i;
          }
        }
      }
    }
  }
}

TEST(Attention, MatchesFloat64ForEveryLength) {
  for (int64_t tokens = 1; tokens <= 700; tokens += tokens < 140 ? 1 : 37) {
    expect_near_reference({.kv_heads = 1, .group = 2, .dim = 16, .tokens = tokens}, 3e-6);
  }
}

TEST(Attention, BothWaysMatchesFloat64ForEveryLength) {
  for (int64_t tokens = 1; tokens <= 1300; tokens += tokens < 140 ? 1 : 97) {
    for (int32_t block : {16, 32}) {
      expect_near_reference({.kv_heads = 2,
                             .group = tokens % 3 == 0 ? 2 : 1,
                             .dim = 32,
                             .tokens = tokens,
                             .block_tokens = block,
                             .causal = false},
                            3e-6);
    }
  }
}

TEST(Attention, MatchesFloat64WithWindowsCapsSinksAndScales) {
  for (int32_t window : {0, 1, 2, 17, 64, 100, 512, 600}) {
    for (float cap : {0.0f, 5.0f, 50.0f}) {
      for (bool sinks : {false, true}) {
        for (float scale : {0.125f, 0.7f}) {
          expect_near_reference({.group = 3,
                                 .dim = 32,
                                 .tokens = 650,
                                 .type = KvType::kF16,
                                 .window = window,
                                 .soft_cap = cap,
                                 .sinks = sinks,
                                 .scale = scale},
                                8e-6);
        }
      }
    }
  }
}

// Against what was given to be stored: the cost of a format.
TEST(Attention, StoredFormatsAreAccurate) {
  const struct {
    KvType type;
    double tolerance;
  } bounds[] = {{KvType::kF32, 2e-6},  {KvType::kF16, 1e-3}, {KvType::kBF16, 8e-3},
                {KvType::kQ8_0, 2e-2}, {KvType::kQ4_0, 0.4}, {KvType::kF8E4M3, 0.13}};
  for (const auto& bound : bounds) {
    expect_near_reference({.group = 2, .tokens = 300, .type = bound.type}, bound.tolerance, false);
  }
}

void expect_same_bits(const Floats& a, const Floats& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

std::vector<Case> contract_cases() {
  std::vector<Case> cases;
  for (const KvTypeName& type : kKvTypes) {
    for (int32_t dim : {64, 72}) {
      cases.push_back({.kv_heads = 1, .group = 3, .dim = dim, .tokens = 1100, .type = type.type});
    }
  }
  cases.push_back({.group = 1, .dim = 128, .tokens = 600, .type = KvType::kF16});
  cases.push_back({.group = 4, .tokens = 600, .type = KvType::kF16, .window = 90});
  cases.push_back({.group = 8, .tokens = 600, .type = KvType::kF16, .window = 5});
  cases.push_back({.kv_heads = 1,
                   .group = 5,
                   .tokens = 1300,
                   .type = KvType::kF16,
                   .window = 700,
                   .soft_cap = 30,
                   .sinks = true});
  return cases;
}

// What an emulator has time for (scripts/test_neon.sh), and every level runs.
TEST(AttentionInShort, WindowsCapsAndSinksMatchFloat64) {
  for (KvType type : {KvType::kF16, KvType::kQ8_0}) {
    for (int32_t window : {0, 17, 100}) {
      for (float cap : {0.0f, 5.0f}) {
        expect_near_reference({.group = 3,
                               .dim = 32,
                               .tokens = 200,
                               .type = type,
                               .window = window,
                               .soft_cap = cap,
                               .sinks = window != 17},
                              8e-6);
      }
    }
  }
}

TEST(AttentionInShort, ChunksAndThreadsDoNotChangeBits) {
  ThreadPool one(1), three(3);
  for (KvType type : {KvType::kF16, KvType::kQ4_0}) {
    for (const Case& c : {Case{.group = 3, .tokens = 200, .type = type},
                          Case{.dim = 72, .tokens = 200, .type = type, .window = 90}}) {
      const Sequence s(c);
      const Floats whole = s.attend_all(c.tokens, one);
      for (int64_t chunk : {1, 7, 33}) {
        expect_same_bits(s.attend_all(chunk, three), whole, describe(c));
      }
    }
  }
}

TEST(Attention, DecodePrefillAndChunksGiveTheSameBits) {
  ThreadPool one(1);
  for (const Case& c : contract_cases()) {
    const Sequence s(c);
    const Floats whole = s.attend_all(c.tokens, one);
    for (int64_t chunk : {1, 2, 7, 33, 129, 300}) {
      expect_same_bits(s.attend_all(chunk, one), whole,
                       describe(c) + " in chunks of " + std::to_string(chunk));
    }
  }
}

TEST(Attention, ThreadsDoNotChangeBits) {
  ThreadPool one(1), two(2), three(3), cores(usable_cores()), twice(2 * usable_cores());
  for (Case c : contract_cases()) {
    c.tokens += 2000;
    const Sequence s(c);
    for (int64_t count : {1, 3, 40, 260}) {
      const Floats expected = s.attend(c.tokens - count, count, one);
      for (ThreadPool* pool : {&two, &three, &cores, &twice}) {
        expect_same_bits(s.attend(c.tokens - count, count, *pool), expected, describe(c));
      }
    }
  }
}

TEST(Attention, TheBlockSizeDoesNotChangeBits) {
  ThreadPool one(1);
  for (Case c : contract_cases()) {
    const Floats thirty_two = Sequence(c).attend_all(50, one);
    c.block_tokens = 16;
    expect_same_bits(Sequence(c).attend_all(50, one), thirty_two, describe(c));
  }
}

TEST(Attention, CompanyDoesNotChangeBits) {
  ThreadPool two(2);
  const Case c{.group = 4, .tokens = 900, .type = KvType::kF16};
  const Sequence s(c);
  const Floats whole = s.attend_all(c.tokens, two);
  // One arena, one sequence taken at ragged places: as if they were sequences that share it.
  const cpu::AttentionSequence parts[] = {
      {.first = 0, .count = 1, .position = 899, .blocks = s.table.data()},
      {.first = 1, .count = 70, .position = 33, .blocks = s.table.data()},
      {.first = 71, .count = 1, .position = 0, .blocks = s.table.data()},
      {.first = 72, .count = 5, .position = 510, .blocks = s.table.data()}};
  Floats q, expected;
  for (const auto& part : parts) {
    const auto from = part.position * c.width(), to = from + part.count * c.width();
    q.insert(q.end(), s.q.begin() + from, s.q.begin() + to);
    expected.insert(expected.end(), whole.begin() + from, whole.begin() + to);
  }
  Floats out(q.size(), NAN);
  cpu::AttentionWorkspace workspace;
  cpu::attention(s.layer, s.params(), parts, q.data(), c.width(), out.data(), two, workspace);
  expect_same_bits(out, expected, "ragged");
}

TEST(Attention, BothWaysThreadsAndCompanyChangeNoBit) {
  ThreadPool one(1), four(4);
  const Case c{.kv_heads = 3, .dim = 64, .tokens = 1500, .type = KvType::kF16, .causal = false};
  const Sequence s(c);
  const Floats alone = s.attend_all(c.tokens, one);
  // Beside itself, in one call.
  Floats q = s.q;
  q.insert(q.end(), s.q.begin(), s.q.end());
  Floats out(q.size(), NAN);
  const auto count = static_cast<int32_t>(c.tokens);
  const cpu::AttentionSequence twice[] = {
      {.first = 0, .count = count, .position = 0, .blocks = s.table.data()},
      {.first = count, .count = count, .position = 0, .blocks = s.table.data()}};
  cpu::AttentionWorkspace workspace;
  cpu::attention(s.layer, s.params(), twice, q.data(), c.width(), out.data(), four, workspace);
  const auto middle = out.begin() + static_cast<std::ptrdiff_t>(alone.size());
  expect_same_bits(Floats(out.begin(), middle), alone, "first");
  expect_same_bits(Floats(middle, out.end()), alone, "second");
}

TEST(Attention, StaysFiniteAtExtremes) {
  ThreadPool one(1);
  for (const KvTypeName& type : kKvTypes) {
    Case c{.group = 2, .tokens = 130, .type = type.type, .scale = 100};
    Sequence s(c);
    for (size_t i = 0; i < s.q.size(); ++i) s.q[i] *= i % 3 == 0 ? 1e4f : 0.0f;
    for (float x : s.attend_all(c.tokens, one)) ASSERT_TRUE(std::isfinite(x)) << describe(c);
    c.sinks = true;
    Sequence sunk(c);
    std::fill(sunk.sinks.begin(), sunk.sinks.end(), 1e30f);
    for (float x : sunk.attend_all(c.tokens, one)) ASSERT_EQ(x, 0.0f) << describe(c);
  }
}

// A query that is no number spoils its own row; a key and value, the rows that see them.
TEST(Attention, WhatIsNoNumberStaysWhereItIsSeen) {
  ThreadPool one(1);
  for (const KvTypeName& type : kKvTypes) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      const Case c{.group = 3, .dim = 40, .tokens = 140, .type = type.type};
      Sequence s(c);
      const Floats clean = s.attend_all(c.tokens, one);
      const int64_t row = 70 * c.heads() + 1;  // a token's second head
      std::fill_n(s.q.begin() + row * c.dim, c.dim, bad);
      const Floats queried = s.attend_all(c.tokens, one);
      const auto from = 100 * c.kv_width(), to = from + c.kv_width();
      Floats k(s.k.begin() + from, s.k.begin() + to), v(s.v.begin() + from, s.v.begin() + to);
      k[0] = v[0] = bad;  // of the first KV head
      cpu::kv_store(s.layer, s.block(100), 100 % c.block_tokens, k.data(), v.data());
      const Floats stored = s.attend_all(c.tokens, one);
      for (int64_t i = 0; i < c.tokens * c.width(); ++i) {
        const auto at = static_cast<size_t>(i);
        if (i / c.dim == row) continue;
        ASSERT_EQ(queried[at], clean[at]) << describe(c) << " query " << bad << " at " << i;
        const bool sees = i / c.width() >= 100 && i % c.width() < c.group * c.dim;
        if (sees) continue;
        ASSERT_EQ(stored[at], clean[at]) << describe(c) << " key " << bad << " at " << i;
      }
    }
  }
}

TEST(Attention, DenormalsAreNumbers) {
  ThreadPool one(1);
  const Case c{.group = 3, .tokens = 70, .scale = 1};
  Sequence s(c);
  // Denormal keys under great queries make scores of some hundredths; values are denormal too.
  for (int64_t t = 0; t < c.tokens; ++t) {
    Floats keys(static_cast<size_t>(c.kv_width())), values(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      keys[i] = s.k[static_cast<size_t>(t * c.kv_width()) + i] * 1e-39f;
      values[i] = s.v[static_cast<size_t>(t * c.kv_width()) + i] * 1e-39f;
    }
    cpu::kv_store(s.layer, s.block(t), static_cast<int32_t>(t % c.block_tokens), keys.data(),
                  values.data());
  }
  for (float& x : s.q) x *= 1e37f;
  const Floats out = s.attend(c.tokens - 1, 1, one);
  for (int32_t h = 0; h < c.heads(); ++h) {
    const std::vector<double> expected = reference(c, s, c.tokens - 1, h, true);
    for (int64_t i = 0; i < c.dim; ++i) {
      ASSERT_NEAR(out[static_cast<size_t>(h * c.dim + i)], expected[static_cast<size_t>(i)], 1e-43);
    }
  }
}

}  // namespace
}  // namespace mlxr
