// RMSNorm, LayerNorm and the small row kernels beside them, against float64.
#include "core/kernels/cpu/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "core/kernels/cpu/elementwise.h"

namespace mlxr {
namespace {

constexpr size_t kSizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 100, 257, 2048, 4097};

// Offset by one float, so that no vector is aligned.
struct Row {
  explicit Row(size_t n, uint32_t seed, float mean = 0) : values(n + 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(mean, 1.0f);
    for (float& v : values) v = normal(random);
  }
  float* data() { return values.data() + 1; }
  float operator[](size_t i) const { return values[i + 1]; }
  std::vector<float> values;
};

TEST(Norm, RmsMatchesFloat64) {
  for (size_t n : kSizes) {
    Row x(n, 1), weight(n, 2), out(n, 3);
    double squares = 0;
    for (size_t i = 0; i < n; ++i) squares += double{x[i]} * x[i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    cpu::rms_norm(x.data(), weight.data(), 1e-5f, static_cast<int64_t>(n), out.data());
    for (size_t i = 0; i < n; ++i) {
      const double expected = x[i] * scale * weight[i];
      ASSERT_NEAR(out[i], expected, 1e-6 * std::abs(expected)) << n << " at " << i;
    }
  }
}

// A mean far from zero is where one pass over x and x^2 would lose all digits, and a sum some.
TEST(Norm, LayerMatchesFloat64WithAndWithoutBias) {
  for (size_t n : kSizes) {
    for (float offset : {0.0f, 300.0f}) {
      Row x(n, 1, offset), weight(n, 2), bias(n, 4), out(n, 3), plain(n, 5);
      double mean = 0, variance = 0;
      for (size_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(n) + 1e-5);
      const auto count = static_cast<int64_t>(n);
      cpu::layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, count, out.data());
      cpu::layer_norm(x.data(), weight.data(), nullptr, 1e-5f, count, plain.data());
      for (size_t i = 0; i < n; ++i) {
        const double expected = (x[i] - mean) * scale * weight[i];
        ASSERT_NEAR(plain[i], expected, 3e-6 * (1 + std::abs(expected))) << n << " at " << i;
        ASSERT_EQ(out[i], plain[i] + bias[i]) << n << " at " << i;
      }
    }
  }
}

TEST(Norm, InPlaceAndDenormals) {
  Row x(40, 1), weight(40, 2), out(40, 3);
  cpu::rms_norm(x.data(), weight.data(), 1e-6f, 40, out.data());
  Row rms = x, layer = x;
  cpu::rms_norm(rms.data(), weight.data(), 1e-6f, 40, rms.data());
  EXPECT_TRUE(std::equal(out.data(), out.data() + 40, rms.data()));
  cpu::layer_norm(x.data(), weight.data(), nullptr, 1e-6f, 40, out.data());
  cpu::layer_norm(layer.data(), weight.data(), nullptr, 1e-6f, 40, layer.data());
  EXPECT_TRUE(std::equal(out.data(), out.data() + 40, layer.data()));
  std::vector<float> tiny(33, 1e-42f), ones(33, 1.0f);
  cpu::rms_norm(tiny.data(), ones.data(), 1e-6f, 33, tiny.data());
  for (float v : tiny) EXPECT_NEAR(v, 1e-39, 1e-41);
}

TEST(Norm, ANanFillsItsRowAlone) {
  std::vector<float> rows(32, 1.0f), ones(16, 1.0f);
  rows[3] = std::nanf("");
  for (int64_t r = 0; r < 2; ++r) {
    cpu::rms_norm(rows.data() + 16 * r, ones.data(), 1e-6f, 16, rows.data() + 16 * r);
  }
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_TRUE(std::isnan(rows[i]));
    EXPECT_NEAR(rows[16 + i], 1.0, 1e-6);
  }
}

TEST(Elementwise, SumsFactorsAndCaps) {
  for (size_t n : kSizes) {
    Row x(n, 1), y(n, 2), sum(n, 3);
    const auto count = static_cast<int64_t>(n);
    cpu::add(x.data(), y.data(), count, sum.data());
    Row scaled = y, twice = x, capped = x;
    cpu::add_scaled(x.data(), 0.3f, count, scaled.data());
    cpu::scale(twice.data(), 1.7f, count);
    cpu::scale(capped.data(), 30.0f, count);
    const Row large = capped;
    cpu::soft_cap(capped.data(), 20.0f, count);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(sum[i], x[i] + y[i]);
      ASSERT_EQ(scaled[i], y[i] + x[i] * 0.3f);
      ASSERT_EQ(twice[i], x[i] * 1.7f);
      ASSERT_NEAR(capped[i], 20 * std::tanh(large[i] / 20.0), 2e-5) << large[i];
    }
  }
}

}  // namespace
}  // namespace mlxr
