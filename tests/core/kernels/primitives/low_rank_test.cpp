// Low-rank terms of products: against float64, in the rows that they are for and no others, and
// without a bit's difference to a row that is alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/base/huge_pages.h"
#include "core/kernels/primitives/ops.h"
#include "mlx/stream.h"
#include "tests/core/random_weights.h"

namespace mlxr {
namespace {

namespace mx = mlx::core;
using testing::RandomWeight;

// Not multiples of a tile of rows, nor of a vector.
constexpr int kTokens = 150, kColumns = 96, kRows = 83;

mx::array random_rows(int rows, int columns, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> x(static_cast<size_t>(rows * columns));
  for (float& v : x) v = normal(random);
  return mx::array(x.begin(), {rows, columns}, mx::float32);
}

KernelContext context(int threads) {
  static const mx::Stream stream = mx::new_stream(mx::Device(mx::Device::cpu));
  return {stream, std::make_shared<ThreadPool>(threads)};
}

// A matrix whose values the test knows.
struct Matrix {
  std::shared_ptr<RandomWeight> values;
  Weight weight;

  Matrix(QuantFormat format, int64_t rows, int64_t cols, uint32_t seed, bool packed) {
    values = std::make_shared<RandomWeight>(testing::random_weight(format, rows, cols, seed));
    weight = {values->ref(), values};
    Weight* const one[] = {&weight};
    const int64_t bytes = packed ? packed_size(one) : 0;
    if (bytes == 0) return;
    ThreadPool pool(1);
    const auto memory = std::make_shared<HugePages>(static_cast<size_t>(bytes));
    pack_weights(one, memory->data(), memory, pool);
  }
  std::vector<double> times(const std::vector<double>& x) const {
    std::vector<double> out;
    std::vector<float> row(static_cast<size_t>(values->cols));
    for (int64_t r = 0; r < values->rows; ++r) {
      dequantize_row(values->view(), r, row.data());
      double sum = 0;
      for (size_t i = 0; i < row.size(); ++i) sum += double{row[i]} * x[i];
      out.push_back(sum);
    }
    return out;
  }
};

struct Term {
  Matrix a, b;
  float scale;
  int32_t first, count;

  LowRankTerm term() const { return {a.weight, b.weight, scale, first, count}; }
  bool covers(int32_t row) const { return row >= first && row < first + count; }
};

struct Case {
  QuantFormat base, term;
  bool packed;
};

class LowRank : public ::testing::TestWithParam<Case> {
 protected:
  Term term(int rank, float scale, int32_t first, int32_t count, uint32_t seed) const {
    const Case& c = GetParam();
    return {Matrix(c.term, rank, kColumns, seed, c.packed),
            Matrix(c.term, kRows, rank, seed + 1, c.packed), scale, first, count};
  }
  // One and two of them in a row, one that covers all, of ranks below and above a vector.
  const std::vector<Term> gate_terms_{term(16, 60, 2, 9, 10), term(3, -40, 7, 20, 20)},
      up_terms_{term(40, 30, 0, kTokens, 30), term(1, 50, 28, 1, 40)};
  const Matrix gate_{GetParam().base, kRows, kColumns, 1, GetParam().packed},
      up_{GetParam().base, kRows, kColumns, 2, GetParam().packed};
  const mx::array x_ = random_rows(kTokens, kColumns, 3);

  static LowRankTerms list(const std::vector<Term>& terms) {
    LowRankTerms out;
    for (const Term& t : terms) out.push_back(t.term());
    return out;
  }
  // What the terms add to a row, in float64.
  std::vector<double> added(const std::vector<Term>& terms, int32_t row) const {
    const float* x = x_.data<float>() + static_cast<int64_t>(row) * kColumns;
    std::vector<double> sum(kRows, 0.0);
    for (const Term& t : terms) {
      if (!t.covers(row)) continue;
      const auto product = t.b.times(t.a.times({x, x + kColumns}));
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += double{t.scale} * product[i];
    }
    return sum;
  }
  // Row `row` of x and its terms, for a product of its own.
  mx::array row_of_x(int32_t row) const {
    return mx::array(x_.data<float>() + static_cast<int64_t>(row) * kColumns, {1, kColumns},
                     mx::float32);
  }
  static LowRankTerms alone(const std::vector<Term>& terms, int32_t row) {
    LowRankTerms out;
    for (const Term& t : terms) {
      if (!t.covers(row)) continue;
      out.push_back(t.term());
      out.back().first = 0;
      out.back().count = 1;
    }
    return out;
  }
  static void expect_same_row(const mx::array& one, const mx::array& all, int32_t row) {
    const float* from = all.data<float>() + static_cast<int64_t>(row) * kRows;
    EXPECT_TRUE(std::equal(from, from + kRows, one.data<float>())) << "row " << row;
  }
};

TEST_P(LowRank, AddsWhatFloat64Does) {
  const LinearWeight gate{gate_.weight, {}}, up{up_.weight, {}};
  const auto on = context(2);
  const auto plain = q_gemm_dequant(x_, {&gate, &up}, on);
  const auto got = q_gemm_dequant(x_, {&gate, &up}, on, {list(gate_terms_), list(up_terms_)});
  const std::vector<Term>* terms[] = {&gate_terms_, &up_terms_};
  double largest = 0;
  for (size_t p = 0; p < 2; ++p) {
    for (int32_t t = 0; t < kTokens; ++t) {
      const auto expected = added(*terms[p], t);
      for (size_t i = 0; i < kRows; ++i) {
        const auto at = static_cast<size_t>(t) * kRows + i;
        const double before = plain[p].data<float>()[at], after = got[p].data<float>()[at];
        ASSERT_NEAR(after - before, expected[i], 2e-5 * (1 + std::abs(expected[i])))
            << "product " << p << " row " << t;
        largest = std::max(largest, std::abs(expected[i]));
      }
    }
  }
  EXPECT_GT(largest, 0.1);  // there is something to add
}

TEST_P(LowRank, RowsWithoutTermsAndRowsInCompanyHaveTheSameBits) {
  const LinearWeight gate{gate_.weight, random_rows(1, kRows, 5)}, up{up_.weight, {}};
  for (int threads : {1, 3}) {
    const auto on = context(threads);
    const auto f = cpu::Activation::kSilu;
    const auto plain = q_gemm_dequant(x_, {&gate}, on)[0];
    const auto product = q_gemm_dequant(x_, {&gate}, on, {list(gate_terms_)})[0];
    const auto activated = activated_mlp_fused(x_, gate, f, on, {list(gate_terms_)});
    const auto gated = swiglu_mlp_fused(x_, gate, up, f, on, {list(gate_terms_), list(up_terms_)});
    const auto gated_plain = swiglu_mlp_fused(x_, gate, up, f, on, {list(gate_terms_), {}});
    for (int32_t t = 0; t < kTokens; ++t) {
      const mx::array x = row_of_x(t);
      const LowRankTerms g = alone(gate_terms_, t), u = alone(up_terms_, t);
      expect_same_row(q_gemm_dequant(x, {&gate}, on, {g})[0], product, t);
      expect_same_row(activated_mlp_fused(x, gate, f, on, {g}), activated, t);
      expect_same_row(swiglu_mlp_fused(x, gate, up, f, on, {g, u}), gated, t);
      if (!g.empty()) continue;
      expect_same_row(q_gemm_dequant(x, {&gate}, on)[0], plain, t);
      expect_same_row(q_gemm_dequant(x, {&gate}, on)[0], product, t);
      expect_same_row(activated_mlp_fused(x, gate, f, on), activated, t);
      expect_same_row(swiglu_mlp_fused(x, gate, up, f, on), gated_plain, t);
    }
  }
}

// After the bias, before the activation.
TEST_P(LowRank, TheSumIsActivated) {
  const LinearWeight gate{gate_.weight, random_rows(1, kRows, 5)};
  const auto on = context(2);
  const auto sums = q_gemm_dequant(x_, {&gate}, on, {list(gate_terms_)})[0];
  const auto got = activated_mlp_fused(x_, gate, cpu::Activation::kSilu, on, {list(gate_terms_)});
  for (size_t i = 0; i < sums.size(); ++i) {
    const double x = sums.data<float>()[i];
    ASSERT_NEAR(got.data<float>()[i], x / (1 + std::exp(-x)), 1e-5 * (1 + std::abs(x)));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, LowRank,
                         ::testing::Values(Case{QuantFormat::kQ8_0, QuantFormat::kF32, true},
                                           Case{QuantFormat::kQ4_0, QuantFormat::kF16, true},
                                           Case{QuantFormat::kBF16, QuantFormat::kBF16, true},
                                           Case{QuantFormat::kQ8_0, QuantFormat::kF32, false},
                                           Case{QuantFormat::kF16, QuantFormat::kF16, false}),
                         [](const auto& param) {
                           return std::string(mlxr::info(param.param.base).name) + "_" +
                                  std::string(mlxr::info(param.param.term).name) +
                                  (param.param.packed ? "_packed" : "_rows");
                         });

}  // namespace
}  // namespace mlxr
