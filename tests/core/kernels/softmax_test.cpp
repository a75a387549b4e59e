// Softmax against float64, and the limits that its contract states.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels/cpu/softmax.h"

namespace mlxr {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Softmax, MatchesFloat64AtEverySizeTemperatureAndAlignment) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(1.0f, 6.0f);
  for (size_t n : {1, 2, 7, 15, 16, 17, 33, 100, 4095, 4096, 4097, 20000}) {
    std::vector<float> row(n + 1);
    for (float& v : row) v = normal(random);
    for (float temperature : {0.05f, 0.7f, 1.0f, 30.0f}) {
      double max = -kInf, sum = 0;
      for (size_t i = 1; i <= n; ++i) max = std::max(max, double{row[i]});
      for (size_t i = 1; i <= n; ++i) sum += std::exp((row[i] - max) / temperature);
      const double log_sum = max / temperature + std::log(sum);
      std::vector<float> p = row;
      const std::span<float> unaligned = std::span(p).subspan(1);
      const double log_sum_exp = cpu::log_sum_exp(unaligned, temperature);
      EXPECT_NEAR(log_sum_exp, log_sum, 1e-6 * (1 + std::abs(log_sum)));
      EXPECT_EQ(cpu::softmax(unaligned, temperature), log_sum_exp);
      for (size_t i = 1; i <= n; ++i) {
        const double expected = std::exp((row[i] - max) / temperature) / sum;
        // An exponent of e is as exact as the float32 quotient: e * 2^-24.
        const double exponent = (max - row[i]) / temperature;
        ASSERT_NEAR(p[i], expected, expected * (1e-6 + exponent * 1.3e-7) + 1e-44)
            << n << " at " << i;
      }
      EXPECT_EQ(p[0], row[0]);
    }
  }
}

std::vector<float> softmax_of(std::vector<float> row, float temperature = 1.0f) {
  cpu::softmax(row, temperature);
  return row;
}

TEST(Softmax, TakesLimits) {
  EXPECT_EQ(softmax_of({1.0f, -kInf, 1.0f}), (std::vector{0.5f, 0.0f, 0.5f}));
  EXPECT_EQ(softmax_of({-kInf, -kInf, -kInf, -kInf}), std::vector(4, 0.25f));
  EXPECT_EQ(softmax_of({kInf, 3.0f, kInf, -kInf}), (std::vector{0.5f, 0.0f, 0.5f, 0.0f}));
  EXPECT_EQ(softmax_of({kNan, 2.0f, kNan}), (std::vector{0.0f, 1.0f, 0.0f}));
  EXPECT_EQ(softmax_of({kNan, kNan}), (std::vector{0.0f, 0.0f}));
  EXPECT_EQ(softmax_of({}), std::vector<float>{});
  EXPECT_EQ(softmax_of({2.0f, 1.0f}, 1e-42f), (std::vector{1.0f, 0.0f}));
  EXPECT_EQ(softmax_of({3e38f, -3e38f}), (std::vector{1.0f, 0.0f}));
  EXPECT_EQ(cpu::log_sum_exp({}), -kInf);
  EXPECT_EQ(cpu::log_sum_exp(std::vector{-kInf, -kInf}), -kInf);
}

TEST(Softmax, AnElementDoesNotDependOnWhereItStands) {
  std::vector<float> row(61, -1.25f);
  row[60] = 2.0f;
  cpu::softmax(row);
  row.pop_back();
  EXPECT_EQ(row, std::vector(60, row[0]));
}

}  // namespace
}  // namespace mlxr
