// The grouped product of experts: against float64, against each expert on its own, and that a
// token's result does not depend on its company or on the number of threads.
#include <gtest/gtest.h>

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

constexpr int kTokens = 37, kHidden = 256, kFfn = 288, kExperts = 6, kUsed = 2;

// An affine format is of 4 bits and groups of 32.
RandomWeight random_matrix(QuantFormat format, int64_t rows, int64_t cols, uint32_t seed) {
  if (format == QuantFormat::kMlxAffine) {
    return testing::random_affine(4, 32, QuantFormat::kF16, rows, cols, seed);
  }
  return testing::random_weight(format, rows, cols, seed);
}

void pack(const std::vector<Weight*>& weights, ThreadPool& pool) {
  const int64_t bytes = packed_size(weights);
  if (bytes == 0) return;
  const auto memory = std::make_shared<HugePages>(static_cast<size_t>(bytes));
  pack_weights(weights, memory->data(), memory, pool);
}

// The product of every row with x, in float64.
std::vector<double> product(const RandomWeight& w, const std::vector<double>& x) {
  std::vector<double> out;
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w.view(), r, row.data());
    double sum = 0;
    for (size_t i = 0; i < row.size(); ++i) sum += double{row[i]} * x[i];
    out.push_back(sum);
  }
  return out;
}

// Experts of one format, and the memory that they lie in.
class Experts {
 public:
  Experts(QuantFormat format, bool packed) {
    // Blocks of 256 columns do not fit an odd feed-forward block.
    const int64_t ffn = info(format).block_elements > 32 ? kHidden : kFfn;
    auto mlps = std::make_shared<std::vector<MlpWeights>>();
    for (uint32_t e = 0; e < kExperts; ++e) {
      mlps->push_back({.gate = matrix(format, ffn, kHidden),
                       .up = matrix(format, ffn, kHidden),
                       .down = matrix(format, kHidden, ffn)});
    }
    ThreadPool pool(1);
    for (MlpWeights& mlp : *mlps) {
      if (!packed) break;
      pack({&mlp.gate->weight, &mlp.up.weight}, pool);
      pack({&mlp.down.weight}, pool);
    }
    mlps_ = std::move(mlps);
  }

  const MoeExperts& mlps() const { return mlps_; }

  // Expert e of x, float64 throughout.
  std::vector<double> reference(int32_t e, const float* x) const {
    const auto at = static_cast<size_t>(3 * e);
    const std::vector<double> input(x, x + kHidden);
    auto gate = product(*values_[at], input);
    const auto up = product(*values_[at + 1], input);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    return product(*values_[at + 2], gate);
  }

 private:
  LinearWeight matrix(QuantFormat format, int64_t rows, int64_t cols) {
    const auto seed = static_cast<uint32_t>(values_.size() + 1);
    values_.push_back(std::make_shared<RandomWeight>(random_matrix(format, rows, cols, seed)));
    return {Weight{values_.back()->ref(), values_.back()}, std::nullopt};
  }

  MoeExperts mlps_;
  std::vector<std::shared_ptr<RandomWeight>> values_;  // gate, up, down of each
};

mx::array random_rows(int rows, int columns, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(static_cast<size_t>(rows * columns));
  for (float& v : x) v = normal(random);
  return mx::array(x.begin(), {rows, columns}, mx::float32);
}

mx::array some_rows(const mx::array& x, int first, int count) {
  const float* from = x.data<float>() + static_cast<int64_t>(first) * x.shape(1);
  return mx::array(from, {count, x.shape(1)}, mx::float32);
}

std::vector<float> values(const mx::array& x) {
  return {x.data<float>(), x.data<float>() + x.size()};
}

KernelContext context(int threads) {
  static const mx::Stream stream = mx::new_stream(mx::Device(mx::Device::cpu));
  return {stream, std::make_shared<ThreadPool>(threads)};
}

const MoeParams& params() {
  static const MoeParams kParams{.router = {.used = kUsed, .renormalize = true, .scale = 1.5f},
                                 .router_bias = {},
                                 .activation = cpu::Activation::kSilu};
  return kParams;
}

struct Case {
  QuantFormat format;
  bool packed;
};

class Moe : public ::testing::TestWithParam<Case> {
 protected:
  mx::array run(const KernelContext& on, const std::vector<mx::array>& shared = {}) const {
    return moe_grouped_gemm(x_, logits_, experts_.mlps(), params(), shared, on);
  }
  std::vector<cpu::ExpertChoice> chosen(int token) const {
    std::vector<cpu::ExpertChoice> out(kUsed);
    const float* logits = logits_.data<float>() + static_cast<int64_t>(token) * kExperts;
    cpu::route({logits, kExperts}, nullptr, params().router, out.data());
    return out;
  }

  const Experts experts_{GetParam().format, GetParam().packed};
  const mx::array x_ = random_rows(kTokens, kHidden, 1, 5);
  const mx::array logits_ = random_rows(kTokens, kExperts, 2, 6);
};

TEST_P(Moe, MatchesFloat64) {
  const auto got = values(run(context(2)));
  // Root mean squares. Activations of quantised weights are rounded to int8 twice, which the next
  // test takes out.
  const double tolerance = cpu::is_float(GetParam().format) ? 1e-6 : 4e-2;
  for (int t = 0; t < kTokens; ++t) {
    std::vector<double> expected(kHidden, 0.0);
    for (const cpu::ExpertChoice& c : chosen(t)) {
      const auto y = experts_.reference(c.expert, x_.data<float>() + int64_t{t} * kHidden);
      for (size_t i = 0; i < y.size(); ++i) expected[i] += c.weight * y[i];
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double away = got[static_cast<size_t>(t) * kHidden + i] - expected[i];
      error += away * away;
      size += expected[i] * expected[i];
    }
    ASSERT_LE(std::sqrt(error), tolerance * std::sqrt(size)) << "token " << t;
  }
}

// With the primitives of a plain feed-forward block, one token and one expert at a time.
TEST_P(Moe, IsItsExpertsAddedBestFirst) {
  const auto alone = context(1);
  const auto got = values(run(context(2)));
  for (int t = 0; t < kTokens; ++t) {
    const mx::array x = some_rows(x_, t, 1);
    std::vector<float> expected(kHidden, 0.0f);
    for (const cpu::ExpertChoice& c : chosen(t)) {
      const MlpWeights& mlp = (*experts_.mlps())[static_cast<size_t>(c.expert)];
      const auto activated = swiglu_mlp_fused(x, *mlp.gate, mlp.up, params().activation, alone);
      const auto y = values(q_gemm_dequant(activated, {&mlp.down}, alone)[0]);
      for (size_t i = 0; i < y.size(); ++i) expected[i] += c.weight * y[i];
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(got[static_cast<size_t>(t) * kHidden + i], expected[i]) << t << " at " << i;
    }
  }
}

TEST_P(Moe, CompanyAndThreadsChangeNoBit) {
  const auto all = values(run(context(1)));
  for (int threads : {2, 3, 4}) ASSERT_EQ(values(run(context(threads))), all) << threads;
  for (int count : {1, 2, 9, 20}) {
    constexpr int kFirst = 11;
    const auto part =
        values(moe_grouped_gemm(some_rows(x_, kFirst, count), some_rows(logits_, kFirst, count),
                                experts_.mlps(), params(), {}, context(2)));
    ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + kFirst * kHidden)) << count;
  }
}

TEST_P(Moe, AddsASharedExpert) {
  const auto plain = values(run(context(1)));
  const mx::array shared = random_rows(kTokens, kHidden, 1, 8);
  const mx::array gate = random_rows(kTokens, 1, 1, 9);
  const auto added = values(run(context(2), {shared}));
  const auto gated = values(run(context(2), {shared, gate}));
  for (size_t i = 0; i < plain.size(); ++i) {
    const float s = shared.data<float>()[i], g = gate.data<float>()[i / kHidden];
    ASSERT_EQ(added[i], plain[i] + s);
    ASSERT_NEAR(gated[i], plain[i] + s / (1 + std::exp(-g)),
                1e-6f * (1 + std::abs(plain[i]) + std::abs(s)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Moe,
    ::testing::Values(Case{QuantFormat::kF32, true}, Case{QuantFormat::kF32, false},
                      Case{QuantFormat::kBF16, true}, Case{QuantFormat::kF16, false},
                      Case{QuantFormat::kQ4_0, true}, Case{QuantFormat::kQ4_0, false},
                      Case{QuantFormat::kQ8_0, true}, Case{QuantFormat::kQ4_K, true},
                      Case{QuantFormat::kQ6_K, false}, Case{QuantFormat::kIQ4_NL, true},
                      Case{QuantFormat::kMXFP4, true}, Case{QuantFormat::kMlxAffine, true}),
    [](const auto& param) {
      return std::string(mlxr::info(param.param.format).name) +
             (param.param.packed ? "packed" : "rows");
    });

}  // namespace
}  // namespace mlxr
