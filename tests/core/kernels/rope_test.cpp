// Rotary embedding, whose pairs must not depend on where vectors end.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/kernels/cpu/elementwise.h"

namespace mlxr {
namespace {

TEST(Rope, RotatesEveryPairOfEveryHeadSize) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const bool interleaved : {false, true}) {
    for (size_t half : {1, 4, 5, 16, 20, 32, 36, 64, 80}) {
      std::vector<float> head(2 * half + 7), cos(half), sin(half);
      for (float& x : head) x = normal(random);
      for (size_t i = 0; i < half; ++i) {
        const float angle = 3 * normal(random);
        cos[i] = std::cos(angle);
        sin[i] = std::sin(angle);
      }
      const std::vector<float> before = head;
      cpu::rope(head.data(), cos.data(), sin.data(), static_cast<int64_t>(half), interleaved);
      for (size_t i = 0; i < half; ++i) {
        const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
        EXPECT_EQ(head[a], before[a] * cos[i] - before[b] * sin[i]) << half << " pair " << i;
        EXPECT_EQ(head[b], before[a] * sin[i] + before[b] * cos[i]) << half << " pair " << i;
      }
      for (size_t i = 2 * half; i < head.size(); ++i) EXPECT_EQ(head[i], before[i]);
    }
  }
}

}  // namespace
}  // namespace mlxr
