// What the KV store keeps of a number, in each of its formats.
#include "core/kernels/cpu/kv_store.h"

#include <gtest/gtest.h>

#include <bit>

#include "tests/core/kernels/attention_sequence.h"

namespace mlxr {
namespace {

using testing::Floats;
using testing::Sequence;
using Case = testing::AttentionCase;

// What is stored, number by number, for values of all sizes.
TEST(KvStore, RoundsToTheNearestAndSaturates) {
  const struct {
    KvType type;
    double relative, absolute;  // half a step of the mantissa, half the smallest step
    double most;
  } bounds[] = {{KvType::kF32, 0, 0, 1e30},
                {KvType::kF16, 0x1p-11, 0x1p-25, 65504},
                {KvType::kBF16, 0x1p-8, 1e-30, 1e30},
                {KvType::kF8E4M3, 0x1p-4, 0x1p-10, 448}};
  for (const auto& bound : bounds) {
    const Case c{.kv_heads = 3, .dim = 72, .tokens = 40, .type = bound.type};
    Sequence s(c);
    for (int64_t t = 0; t < c.tokens; ++t) {
      Floats row(static_cast<size_t>(c.kv_width()));
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = s.k[static_cast<size_t>(t * c.kv_width()) + i] *
                 std::ldexp(1.0f, static_cast<int>(t) - 20);
      }
      cpu::kv_store(s.layer, s.block(t), static_cast<int32_t>(t % 32), row.data(), row.data());
      for (int32_t h = 0; h < c.kv_heads; ++h) {
        for (int64_t i = 0; i < c.dim; ++i) {
          const double x =
              std::clamp<double>(row[static_cast<size_t>(h * c.dim + i)], -bound.most, bound.most);
          const double error = std::abs(x) * bound.relative + bound.absolute;
          ASSERT_NEAR(s.number(true, t, h, i), x, error) << kv_type_name(bound.type);
          ASSERT_NEAR(s.number(false, t, h, i), x, error) << kv_type_name(bound.type);
        }
      }
    }
  }
}

TEST(KvStore, MatchesTheScalarConversionsOfSixteenBits) {
  const Case c{.kv_heads = 1, .dim = 64, .tokens = 1, .type = KvType::kF16};
  Sequence half(c);
  Case bf = c;
  bf.type = KvType::kBF16;
  Sequence brain(bf);
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    Floats row(64);
    for (float& x : row) {
      x = std::bit_cast<float>(static_cast<uint32_t>(random()));
      if (!std::isfinite(x) || std::abs(x) > 65504.0f) x = 0.1f;
    }
    cpu::kv_store(half.layer, half.table[0], 0, row.data(), row.data());
    cpu::kv_store(brain.layer, brain.table[0], 0, row.data(), row.data());
    for (int64_t i = 0; i < 64; ++i) {
      const float x = row[static_cast<size_t>(i)];
      ASSERT_EQ(half.number(false, 0, 0, i), f16_to_f32(f32_to_f16(x))) << x;
      ASSERT_EQ(brain.number(false, 0, 0, i), bf16_to_f32(f32_to_bf16(x))) << x;
    }
  }
}

TEST(KvStore, ScaledFormatsKeepHalfAStep) {
  for (KvType type : {KvType::kQ8_0, KvType::kQ4_0}) {
    for (int32_t dim : {40, 64, 112}) {
      const Case c{.kv_heads = 2, .dim = dim, .tokens = 33, .type = type};
      const Sequence s(c);
      for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t i = 0; i < c.kv_width(); ++i) {
          const int64_t head = i / dim, element = i % dim, group = element / 32 * 32;
          const auto row = s.k.begin() + t * c.kv_width() + head * dim;
          double most = 0;
          for (int64_t j = group; j < std::min<int64_t>(dim, group + 32); ++j) {
            most = std::max(most, std::abs(double{row[j]}));
          }
          // q8_0: half of most / 127. q4_0: codes reach -8 to 7, so the other sign may lose a step.
          const double bound = type == KvType::kQ8_0 ? most * 0.0041 : most * 0.127;
          ASSERT_NEAR(s.number(true, t, static_cast<int32_t>(head), element), row[element], bound);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mlxr
