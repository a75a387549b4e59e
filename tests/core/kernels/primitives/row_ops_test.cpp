// embed, embed_with_places, norm_fused, add_norm_fused, soft_cap and select_rows: against float64,
// the same bits with any number of threads, and a row that is no number alone is none.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "core/kernels/primitives/ops.h"
#include "mlx/stream.h"
#include "tests/core/random_weights.h"

namespace mlxr {
namespace {

namespace mx = mlx::core;
using testing::RandomWeight;

constexpr int kRows = 45, kWidth = 67;  // several threads' worth; no multiple of a vector
constexpr int kBadRow = 21;

KernelContext context(int threads) {
  static const mx::Stream stream = mx::new_stream(mx::Device(mx::Device::cpu));
  return {stream, std::make_shared<ThreadPool>(threads)};
}

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}
mx::array rows_of(const std::vector<float>& x) {
  return mx::array(x.begin(), {static_cast<int>(x.size()) / kWidth, kWidth}, mx::float32);
}
mx::array vector_of(const std::vector<float>& x) {
  return mx::array(x.begin(), {static_cast<int>(x.size())}, mx::float32);
}
std::vector<float> floats_of(const mx::array& x) {
  return {x.data<float>(), x.data<float>() + x.size()};
}

// Results of one operation, one after the other, with the same bits for every pool.
using Operation = std::function<std::vector<mx::array>(const KernelContext&)>;
std::vector<std::vector<float>> with_every_pool(const Operation& operation) {
  std::vector<std::vector<float>> expected;
  for (int threads : {1, usable_cores(), 2 * usable_cores()}) {
    std::vector<std::vector<float>> results;
    for (const mx::array& x : operation(context(threads))) results.push_back(floats_of(x));
    if (expected.empty()) expected = results;
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT_EQ(results[i].size(), expected[i].size());
      // NaN is not itself: compared as bytes.
      EXPECT_EQ(std::memcmp(results[i].data(), expected[i].data(), 4 * results[i].size()), 0)
          << threads << " threads";
    }
  }
  return expected;
}

// Rows other than kBadRow are those of `clean`; of that, nothing is a number.
void expect_bad_row_alone(const std::vector<float>& out, const std::vector<float>& clean,
                          bool whole_row = true) {
  bool any = false;
  ASSERT_EQ(out.size(), clean.size());
  for (size_t i = 0; i < out.size(); ++i) {
    if (i / kWidth != kBadRow) {
      ASSERT_EQ(out[i], clean[i]) << i;
    } else {
      any |= !std::isfinite(out[i]);
      ASSERT_TRUE(!whole_row || !std::isfinite(out[i])) << i;
    }
  }
  ASSERT_TRUE(any);
}

struct Norms {
  const char* name;
  NormWeight weight;
};
std::vector<Norms> norms() {
  const mx::array weight = vector_of(random_floats(kWidth, 8)),
                  bias = vector_of(random_floats(kWidth, 9));
  return {{"rms", {cpu::NormKind::kRms, 1e-5f, weight, {}}},
          {"layer", {cpu::NormKind::kLayer, 1e-5f, weight, {}}},
          {"layer with bias", {cpu::NormKind::kLayer, 1e-5f, weight, bias}}};
}

// A row of x + y, normed.
std::vector<double> normed(const NormWeight& norm, const float* x, const float* y) {
  std::vector<double> sum(kWidth);
  for (size_t i = 0; i < kWidth; ++i) sum[i] = double{x[i]} + (y == nullptr ? 0.0 : y[i]);
  const bool layer = norm.kind == cpu::NormKind::kLayer;
  const double mean = layer ? std::accumulate(sum.begin(), sum.end(), 0.0) / kWidth : 0;
  double squares = 0;
  for (double v : sum) squares += (v - mean) * (v - mean);
  for (size_t i = 0; i < kWidth; ++i) {
    sum[i] =
        (sum[i] - mean) / std::sqrt(squares / kWidth + norm.eps) * norm.weight.data<float>()[i];
    if (norm.bias) sum[i] += norm.bias->data<float>()[i];
  }
  return sum;
}

TEST(RowOps, NormsMatchFloat64WithAndWithoutAResidual) {
  const auto x = random_floats(kRows * kWidth, 1), residual = random_floats(kRows * kWidth, 2);
  for (const auto& [name, weight] : norms()) {
    const auto out = with_every_pool([&](const KernelContext& on) {
      const NormedSum both = add_norm_fused(rows_of(residual), rows_of(x), weight, on);
      return std::vector<mx::array>{norm_fused(rows_of(x), weight, on), both.sum, both.normed};
    });
    for (size_t r = 0; r < kRows; ++r) {
      const auto plain = normed(weight, x.data() + r * kWidth, nullptr);
      const auto fused = normed(weight, x.data() + r * kWidth, residual.data() + r * kWidth);
      for (size_t i = 0; i < kWidth; ++i) {
        const size_t at = r * kWidth + i;
        ASSERT_NEAR(out[0][at], plain[i], 4e-6 * (1 + std::abs(plain[i]))) << name << " row " << r;
        ASSERT_EQ(out[1][at], residual[at] + x[at]) << name << " row " << r;
        ASSERT_NEAR(out[2][at], fused[i], 4e-6 * (1 + std::abs(fused[i]))) << name << " row " << r;
      }
    }
  }
}

TEST(RowOps, ARowThatIsNoNumberIsAlone) {
  const auto clean = random_floats(kRows * kWidth, 1), residual = random_floats(kRows * kWidth, 2);
  for (const auto& [name, weight] : norms()) {
    const auto run = [&, &weight = weight](const std::vector<float>& x) {
      return with_every_pool([&](const KernelContext& on) {
        const NormedSum both = add_norm_fused(rows_of(residual), rows_of(x), weight, on);
        return std::vector<mx::array>{norm_fused(rows_of(x), weight, on), both.normed, both.sum,
                                      soft_cap(rows_of(x), 5.0f, on)};
      });
    };
    const auto expected = run(clean);
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      auto x = clean;
      x[kBadRow * kWidth + 13] = bad;
      const auto out = run(x);
      // An infinite RMS leaves zeros of the numbers beside it, as in float64.
      const bool row = std::isnan(bad) || weight.kind == cpu::NormKind::kLayer;
      expect_bad_row_alone(out[0], expected[0], row);
      expect_bad_row_alone(out[1], expected[1], row);
      expect_bad_row_alone(out[2], expected[2], false);
      if (std::isnan(bad)) expect_bad_row_alone(out[3], expected[3], false);
    }
  }
}

TEST(RowOps, SoftCapMatchesFloat64) {
  auto x = random_floats(kRows * kWidth, 1);
  for (size_t i = 0; i < x.size(); i += 9) x[i] *= 1e4f;
  x[5] = INFINITY;  // whose cap is the cap
  const auto out = with_every_pool([&](const KernelContext& on) {
    return std::vector<mx::array>{soft_cap(rows_of(x), 5.0f, on)};
  })[0];
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(out[i], 5 * std::tanh(x[i] / 5.0), 5e-6) << x[i];
  }
}

TEST(RowOps, SelectRowsCopiesThemInOrder) {
  auto x = random_floats(kRows * kWidth, 1);
  x[kBadRow * kWidth] = NAN;
  const std::vector<int32_t> rows = {0, 3, kBadRow, kRows - 1};
  const auto out = with_every_pool([&](const KernelContext& on) {
    return std::vector<mx::array>{select_rows(rows_of(x), rows, on)};
  })[0];
  ASSERT_EQ(out.size(), rows.size() * kWidth);
  for (size_t r = 0; r < rows.size(); ++r) {
    ASSERT_EQ(std::memcmp(out.data() + r * kWidth, x.data() + rows[r] * kWidth, 4 * kWidth), 0);
  }
}

// A table of any format and what float64 makes of its rows.
struct Table {
  std::shared_ptr<RandomWeight> values;
  Weight weight;

  explicit Table(RandomWeight w) : values(std::make_shared<RandomWeight>(std::move(w))) {
    weight = {values->ref(), values};
  }
  std::vector<float> row(int64_t r) const {
    std::vector<float> out(static_cast<size_t>(values->cols));
    dequantize_row(values->view(), r, out.data());
    return out;
  }
};

std::vector<Table> tables(int64_t rows, int64_t cols) {
  std::vector<Table> all;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.format == QuantFormat::kMlxAffine) continue;
    all.emplace_back(testing::random_weight(f.format, rows, cols, 3));
  }
  for (int32_t bits : {2, 3, 4, 5, 6, 8}) {
    all.emplace_back(testing::random_affine(bits, 64, QuantFormat::kBF16, rows, cols, 4));
  }
  return all;
}

std::shared_ptr<const StepPlan> plan_of(int tokens, int vocabulary) {
  auto plan = std::make_shared<StepPlan>();
  for (int t = 0; t < tokens; ++t) {
    plan->token_ids.push_back((t * 7 + 3) % vocabulary);
    plan->positions.push_back(t % 11);
    plan->token_types.push_back(t % 2);
  }
  return plan;
}

TEST(RowOps, EmbeddingsOfEveryFormatAreTheirRows) {
  const auto plan = plan_of(29, 40);
  for (const Table& table : tables(40, 256)) {
    const auto out = with_every_pool([&](const KernelContext& on) {
      return std::vector<mx::array>{embed(table.weight, 1.0f, plan, on),
                                    embed(table.weight, 1.7f, plan, on)};
    });
    for (size_t t = 0; t < 29; ++t) {
      const auto row = table.row(plan->token_ids[t]);
      for (size_t i = 0; i < 256; ++i) {
        ASSERT_EQ(out[0][t * 256 + i], row[i]) << format_name(table.values->view());
        ASSERT_EQ(out[1][t * 256 + i], row[i] * 1.7f) << format_name(table.values->view());
      }
    }
  }
}

TEST(RowOps, EmbeddingsWithPlacesMatchFloat64) {
  const auto plan = plan_of(29, 40);
  const Table words(testing::random_weight(QuantFormat::kQ8_0, 40, 96, 1)),
      places(testing::random_weight(QuantFormat::kF16, 11, 96, 2)),
      types(testing::random_weight(QuantFormat::kBF16, 2, 96, 3));
  const auto out = with_every_pool([&](const KernelContext& on) {
    return std::vector<mx::array>{
        embed_with_places({words.weight, places.weight, types.weight}, plan, on),
        embed_with_places({words.weight, places.weight}, plan, on)};
  });
  for (size_t t = 0; t < 29; ++t) {
    const auto word = words.row(plan->token_ids[t]), place = places.row(plan->positions[t]),
               type = types.row(plan->token_types[t]);
    for (size_t i = 0; i < 96; ++i) {
      ASSERT_NEAR(out[0][t * 96 + i], double{word[i]} + place[i] + type[i], 1e-6);
      ASSERT_NEAR(out[1][t * 96 + i], double{word[i]} + place[i], 1e-6);
    }
  }
}

// One row of the table is no number: only the tokens that look it up get none.
TEST(RowOps, ATableRowThatIsNoNumberReachesItsTokensAlone) {
  const auto plan = plan_of(29, 40);
  RandomWeight w = testing::random_weight(QuantFormat::kF32, 40, kWidth, 1);
  const Table clean(w);
  const int32_t bad_id = plan->token_ids[5];
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    for (int i = 0; i < kWidth; ++i) {
      testing::put_scalar(w.bytes, static_cast<size_t>(bad_id * kWidth + i), w.format, bad);
    }
    const Table table(w);
    const auto out = with_every_pool([&](const KernelContext& on) {
      return std::vector<mx::array>{embed(table.weight, 2.0f, plan, on),
                                    embed(clean.weight, 2.0f, plan, on),
                                    embed_with_places({table.weight, clean.weight}, plan, on),
                                    embed_with_places({clean.weight, clean.weight}, plan, on)};
    });
    for (size_t i = 0; i < out[0].size(); ++i) {
      for (size_t which : {0, 2}) {
        if (plan->token_ids[i / kWidth] == bad_id) {
          ASSERT_FALSE(std::isfinite(out[which][i])) << i;
        } else {
          ASSERT_EQ(out[which][i], out[which + 1][i]) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mlxr
