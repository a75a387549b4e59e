// The best of a row against a stable sort, for every awkward row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "core/kernels/cpu/topk.h"

namespace mlxr {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Larger first, then the lower index; numbers only.
std::vector<int32_t> sorted_ids(std::span<const float> x) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isnan(x[i])) ids.push_back(static_cast<int32_t>(i));
  }
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)];
  });
  return ids;
}

void expect_best(std::span<const float> x, const std::string& what) {
  const std::vector<int32_t> expected = sorted_ids(x);
  EXPECT_EQ(cpu::argmax(x), expected.empty() ? -1 : expected[0]) << what;
  EXPECT_EQ(cpu::largest(x), expected.empty() ? -kInf : x[static_cast<size_t>(expected[0])])
      << what;
  EXPECT_EQ(cpu::has_nan(x), expected.size() < x.size()) << what;
  std::vector<cpu::TopLogit> top(3);
  for (int32_t k : {0, 1, 2, 7, 40, 129, 300, 5000}) {
    cpu::top_k(x, k, top);
    ASSERT_EQ(top.size(), std::min(static_cast<size_t>(k), expected.size())) << what << " k " << k;
    for (size_t i = 0; i < top.size(); ++i) {
      ASSERT_EQ(top[i].id, expected[i]) << what << " k " << k << " place " << i;
      ASSERT_EQ(top[i].logit, x[static_cast<size_t>(top[i].id)]);
    }
  }
}

std::vector<float> normal_row(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

TEST(TopK, EverySizeAndEveryAlignment) {
  for (size_t n : {0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 511, 1000, 4099, 30011}) {
    const auto row = normal_row(n + 3, static_cast<uint32_t>(n));
    for (size_t offset : {0, 1, 3}) {
      expect_best(std::span(row).subspan(offset, n), "n " + std::to_string(n));
    }
  }
}

TEST(TopK, RisingFallingAndEqualRows) {
  std::vector<float> row(20000);
  std::iota(row.begin(), row.end(), -7000.0f);
  expect_best(row, "rising");
  std::reverse(row.begin(), row.end());
  expect_best(row, "falling");
  for (float value : {0.0f, -3.0f, kInf, -kInf, std::numeric_limits<float>::lowest()}) {
    std::fill(row.begin(), row.end(), value);
    expect_best(row, "all " + std::to_string(value));
  }
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i * 7919 % 5);
  expect_best(row, "five values");
  for (size_t i = 0; i < row.size(); ++i) row[i] = i % 3 == 1 ? 0.0f : -0.0f;
  expect_best(row, "zeros of both signs");
}

TEST(TopK, NumbersThatAreNone) {
  auto row = normal_row(9001, 4);
  for (size_t i = 0; i < row.size(); i += 3) row[i] = i % 2 == 0 ? kNan : -kNan;
  expect_best(row, "a third NaN");
  for (size_t i = 1; i < row.size(); i += 5) row[i] = -kInf;
  row[8000] = row[17] = kInf;
  expect_best(row, "infinities");
  std::fill(row.begin(), row.end(), kNan);
  expect_best(row, "NaN alone");
  row[8999] = -kInf;
  expect_best(row, "one -inf among NaN");
  std::fill(row.begin(), row.end(), -kInf);
  row[8995] = kNan;
  expect_best(row, "one NaN among -inf");
}

TEST(TopK, DenormalsAreNotZero) {
  std::vector<float> row(1000, 0.0f);
  row[700] = std::numeric_limits<float>::denorm_min();
  row[300] = -std::numeric_limits<float>::denorm_min();
  row[900] = 1e-40f;
  expect_best(row, "denormals");
}

}  // namespace
}  // namespace mlxr
