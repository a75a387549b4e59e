// Activations, plain and gated, against float64; and that an element does not depend on its place.
#include "core/kernels/cpu/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mlxr {
namespace {

using cpu::Activation;

constexpr Activation kAll[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                               Activation::kRelu};

double reference(Activation f, double x) {
  switch (f) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh: {
      const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1 + std::tanh(u));
    }
    case Activation::kRelu:
      return x > 0 ? x : 0;
  }
  return 0;
}

std::vector<float> inputs() {
  std::vector<float> x = {0.0f,   -0.0f,   1e-40f, -1e-40f, 1e-20f, 88.0f, -88.0f,
                          100.0f, -104.0f, 1e4f,   -1e4f,   1e30f,  -3.0f, 3.0f};
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 4);
  for (int i = 0; i < 1000; ++i) x.push_back(normal(random));
  return x;
}

TEST(Activation, MatchesFloat64) {
  const auto x = inputs();
  for (Activation f : kAll) {
    auto plain = x, gated = x;
    auto up = x;
    std::reverse(up.begin(), up.end());
    for (float& v : up) v = std::min(std::max(v, -9.0f), 9.0f);
    cpu::activate(f, plain.data(), static_cast<int64_t>(plain.size()));
    cpu::activate_gated(f, gated.data(), up.data(), static_cast<int64_t>(gated.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = reference(f, x[i]);
      // Of erf 1.5e-7; far below zero silu stops at exp(-88).
      const double tolerance = 4e-7 * std::abs(expected) + 1.6e-7 * std::min(std::abs(x[i]), 9.0f) +
                               1e-38 * std::abs(x[i]);
      EXPECT_NEAR(plain[i], expected, tolerance) << static_cast<int>(f) << " of " << x[i];
      EXPECT_EQ(gated[i], plain[i] * up[i]) << static_cast<int>(f) << " of " << x[i];
    }
  }
}

TEST(Activation, AnElementDoesNotDependOnItsPlace) {
  const auto x = inputs();
  for (Activation f : kAll) {
    auto all = x;
    cpu::activate(f, all.data(), static_cast<int64_t>(all.size()));
    for (size_t n : {1, 3, 8, 15, 17, 33}) {
      for (size_t offset : {0, 1, 5}) {
        std::vector<float> some(x.begin() + static_cast<std::ptrdiff_t>(offset),
                                x.begin() + static_cast<std::ptrdiff_t>(offset + n + 1));
        cpu::activate(f, some.data(), static_cast<int64_t>(n));
        for (size_t i = 0; i < n; ++i) ASSERT_EQ(some[i], all[offset + i]) << n << " at " << i;
        ASSERT_EQ(some[n], x[offset + n]) << "what follows was touched";
      }
    }
  }
}

TEST(Activation, NumbersThatAreNone) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (Activation f : kAll) {
    std::vector<float> x = {kInf, std::nanf(""), 1.0f};
    cpu::activate(f, x.data(), 3);
    EXPECT_EQ(x[0], kInf) << static_cast<int>(f);
    EXPECT_TRUE(std::isnan(x[1])) << static_cast<int>(f);
    EXPECT_NEAR(x[2], reference(f, 1.0), 1e-6);
  }
}

}  // namespace
}  // namespace mlxr
