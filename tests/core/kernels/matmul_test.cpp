// Every format's product against a float64 dequantise-and-multiply, and the contract that a result
// does not depend on how many columns are computed with it.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/matmul.h"
#include "core/kernels/cpu/packed_layout.h"
#include "core/kernels/cpu/simd_level.h"
#include "tests/core/random_weights.h"

namespace mlxr {
namespace {

using testing::random_affine;
using testing::random_weight;
using testing::RandomWeight;

std::vector<RandomWeight> every_weight(int64_t rows, int64_t cols) {
  std::vector<RandomWeight> all;
  uint32_t seed = 1;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.format == QuantFormat::kMlxAffine || cols % f.block_elements != 0) continue;
    all.push_back(random_weight(f.format, rows, cols, seed++));
  }
  for (int32_t bits : {2, 3, 4, 5, 6, 8}) {
    for (int32_t group : {32, 64, 128}) {
      if (cols % group != 0) continue;
      const QuantFormat scales[] = {QuantFormat::kF16, QuantFormat::kBF16, QuantFormat::kF32};
      all.push_back(random_affine(bits, group, scales[seed % 3], rows, cols, seed));
      ++seed;
    }
  }
  return all;
}

// Activations that int8 with a scale every 32 holds almost exactly: what is tested is the kernel,
// not the rounding of activations.
std::vector<float> exact_activations(int64_t columns, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> integer(-127, 127);
  std::vector<float> x(static_cast<size_t>(columns * k));
  for (size_t i = 0; i < x.size(); ++i) {
    const float scale = 0.01f * static_cast<float>(1 + (i / 32) % 7);
    x[i] = scale * static_cast<float>(i % 32 == 3 ? 127 : integer(random));
  }
  return x;
}

// To out[columns, w.rows].
void multiply(const cpu::MatrixRef& w, const float* x, int64_t columns, float* out,
              ThreadPool& pool) {
  cpu::QuantizedActivations quantized;
  cpu::ActivationView view{
      .x = x, .stride = w.cols, .columns = columns, .k = w.cols, .quantized = nullptr};
  const int64_t tile = cpu::activation_tile(w, columns);
  if (cpu::needs_quantized_activations(w)) {
    cpu::quantize_activations(x, w.cols, columns, w.cols, tile, quantized, pool);
    view.quantized = &quantized;
  }
  std::vector<float> tiles;
  if (w.packed && cpu::is_float(w.format)) {
    cpu::tile_activations(x, w.cols, columns, w.cols, tile, tiles, pool);
    view.tiles = tiles.data();
  }
  pool.parallel_for((w.rows + cpu::kRowTile - 1) / cpu::kRowTile, 1,
                    [&](int64_t first, int64_t last, int) {
                      cpu::MatmulScratch scratch;
                      const int64_t begin = first * cpu::kRowTile;
                      cpu::matmul_rows(w, begin, std::min(last * cpu::kRowTile, w.rows), view,
                                       out + begin, w.rows, scratch);
                    });
}

std::vector<float> product(const cpu::MatrixRef& w, const std::vector<float>& x, int64_t columns,
                           ThreadPool& pool) {
  std::vector<float> out(static_cast<size_t>(columns * w.rows), NAN);
  multiply(w, x.data(), columns, out.data(), pool);
  return out;
}

// The interleaved form of a matrix, with the memory that it lies in.
struct Packed {
  std::vector<uint8_t> memory;
  cpu::MatrixRef ref;
};

// Tiles are `spare` bytes apart, as those of two matrices that alternate.
Packed packed(const cpu::MatrixRef& rows, int64_t spare = 64) {
  Packed out;
  out.ref = rows;
  out.memory.resize(
      static_cast<size_t>(cpu::packed_bytes(out.ref) + cpu::packed_tiles(out.ref) * spare + 64));
  const auto misaligned = reinterpret_cast<uintptr_t>(out.memory.data()) % 64;
  uint8_t* data = out.memory.data() + (64 - misaligned) % 64;
  const int64_t tiles = cpu::packed_tiles(out.ref),
                stride = cpu::packed_tile_bytes(out.ref) + spare;
  cpu::pack_tiles(rows, 0, tiles / 2, data, stride);
  cpu::pack_tiles(rows, tiles / 2, tiles, data, stride);
  out.ref.data = data;
  out.ref.tile_stride = stride;
  out.ref.packed = true;
  return out;
}

// As it lies, and packed where it can be.
void expect_matches_reference(const RandomWeight& w, int64_t columns) {
  ThreadPool pool(2);
  const auto x = exact_activations(columns, w.cols, 77);
  std::vector<std::vector<float>> results = {product(w.ref(), x, columns, pool)};
  if (cpu::has_packed_form(w.ref())) {
    const Packed p = packed(w.ref());
    results.push_back(product(p.ref, x, columns, pool));
  }
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w.view(), r, row.data());
    for (int64_t c = 0; c < columns; ++c) {
      double expected = 0, magnitude = 0;
      for (int64_t i = 0; i < w.cols; ++i) {
        const double term =
            double{row[static_cast<size_t>(i)]} * x[static_cast<size_t>(c * w.cols + i)];
        expected += term;
        magnitude += std::abs(term);
      }
      for (const auto& out : results) {
        ASSERT_NEAR(out[static_cast<size_t>(c * w.rows + r)], expected, 2e-6 * magnitude + 1e-12)
            << format_name(w.view()) << " row " << r << " column " << c << " of " << columns;
      }
    }
  }
}

TEST(Matmul, MatchesFloat64ForEveryFormatAndOddSizes) {
  for (int64_t rows : {1, 7, 8, 9, 31, 33, 70}) {
    for (int64_t columns : {1, 2, 3, 4, 5, 6, 13}) {
      for (const RandomWeight& w : every_weight(rows, 256)) expect_matches_reference(w, columns);
    }
  }
  // A panel on every level, whole tiles of columns and a rest, groups of rows in pairs and alone.
  for (int64_t rows : {16, 33, 70}) {
    for (int64_t columns : {cpu::kMostDotColumns + 1, cpu::kMostDotColumns + 15}) {
      for (const RandomWeight& w : every_weight(rows, 256)) expect_matches_reference(w, columns);
    }
  }
  for (const RandomWeight& w : every_weight(40, 32)) expect_matches_reference(w, 7);
  for (const RandomWeight& w : every_weight(40, 1280)) expect_matches_reference(w, 9);
}

TEST(Matmul, FloatFormatsTakeAnyNumberOfColumnsOfWeights) {
  for (QuantFormat f : {QuantFormat::kF32, QuantFormat::kF16, QuantFormat::kBF16,
                        QuantFormat::kF8_E4M3, QuantFormat::kF8_E5M2}) {
    for (int64_t cols : {1, 5, 15, 17, 80, 101}) {
      expect_matches_reference(random_weight(f, 13, cols, 5), 7);
    }
  }
}

TEST(Matmul, AResultDoesNotDependOnItsCompany) {
  ThreadPool one(1), cores(usable_cores()), twice(2 * usable_cores());
  constexpr int64_t kColumns = 17;
  for (const RandomWeight& w : every_weight(72, 512)) {
    const auto x = exact_activations(kColumns, w.cols, 3);
    const cpu::MatrixRef ref = w.ref();
    const auto together = product(ref, x, kColumns, cores);
    ASSERT_EQ(product(ref, x, kColumns, twice), together) << format_name(w.view());
    for (int64_t c = 0; c < kColumns; ++c) {
      const std::vector<float> column(x.begin() + c * w.cols, x.begin() + (c + 1) * w.cols);
      const auto alone = product(ref, column, 1, one);
      for (int64_t r = 0; r < w.rows; ++r) {
        ASSERT_EQ(alone[static_cast<size_t>(r)], together[static_cast<size_t>(c * w.rows + r)])
            << format_name(w.view()) << " row " << r << " column " << c;
      }
    }
  }
}

// Each register tile and each rest of both paths, and both sides of where a level changes over.
TEST(Matmul, PackedRowsGiveTheSameBitsForAnyNumberOfColumns) {
  ThreadPool one(1), three(3), twice(2 * usable_cores());
  constexpr int64_t kMost = cpu::kMostDotColumns, kColumns = kMost + 15;
  std::vector<int64_t> counts = {kMost - 1, kMost};
  for (int64_t n = 1; n <= 14; ++n) counts.push_back(n);
  for (int64_t n = 1; n <= 6; ++n) counts.push_back(kMost + n);
  for (const RandomWeight& w : every_weight(72, 512)) {
    if (!cpu::has_packed_form(w.ref())) continue;
    const Packed p = packed(w.ref());
    const auto x = exact_activations(kColumns, w.cols, 3);
    const auto together = product(p.ref, x, kColumns, three);
    ASSERT_EQ(product(p.ref, x, kColumns, twice), together) << format_name(w.view());
    for (const int64_t n : counts) {
      std::vector<float> first = x;
      first.resize(static_cast<size_t>(n * w.cols));
      const auto some = product(p.ref, first, n, one);
      for (size_t i = 0; i < some.size(); ++i) {
        ASSERT_EQ(some[i], together[i]) << format_name(w.view()) << " of " << n << " columns";
      }
    }
    if (!cpu::has_row_kernel(w.format)) continue;  // its rows are decoded to floats
    const auto rows = product(w.ref(), x, kColumns, three);
    ASSERT_EQ(rows, together) << format_name(w.view());
  }
}

// The same bytes at an odd address.
class Moved {
 public:
  explicit Moved(const std::vector<std::byte>& bytes) : memory_(bytes.size() + 1) {
    std::copy(bytes.begin(), bytes.end(), memory_.begin() + 1);
  }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(memory_.data()) + 1; }

 private:
  std::vector<std::byte> memory_;
};

// Nothing aligns the tensors of a safetensors file, whose header may be of any length; activations
// and results are rows of arrays of any width.
TEST(Matmul, NothingNeedsToBeAligned) {
  ThreadPool pool(1);
  for (const RandomWeight& w : every_weight(40, 256)) {
    const Moved bytes(w.bytes), scales(w.scales), biases(w.biases);
    cpu::MatrixRef moved = w.ref();
    moved.data = bytes.data();
    moved.scales = scales.data();
    moved.biases = biases.data();
    std::vector<std::pair<cpu::MatrixRef, cpu::MatrixRef>> pairs = {{w.ref(), moved}};
    Packed p, packed_from_moved;
    if (cpu::has_packed_form(w.ref())) {
      p = packed(w.ref());
      packed_from_moved = packed(moved);
      pairs.emplace_back(p.ref, packed_from_moved.ref);
    }
    for (const auto& [aligned, unaligned] : pairs) {
      for (const int64_t columns : {int64_t{1}, int64_t{7}, cpu::kMostDotColumns + 3}) {
        std::vector<float> x = exact_activations(columns, w.cols, 9);
        const auto expected = product(aligned, x, columns, pool);
        x.insert(x.begin(), 0.0f);
        std::vector<float> out(expected.size() + 1, NAN);
        multiply(unaligned, x.data() + 1, columns, out.data() + 1, pool);
        out.erase(out.begin());
        ASSERT_EQ(out, expected) << format_name(w.view()) << " of " << columns << " columns";
      }
    }
    std::vector<float> row(static_cast<size_t>(w.cols)), moved_row(row.size() + 1);
    cpu::decode_row(w.ref(), 39, row.data());
    cpu::decode_row(moved, 39, moved_row.data() + 1);
    moved_row.erase(moved_row.begin());
    ASSERT_EQ(moved_row, row) << format_name(w.view());
  }
}

// All bits set is NaN in most formats' scales: one row of that among rows of zeros.
TEST(Matmul, AScaleThatIsNoNumberStaysInItsRow) {
  ThreadPool pool(1);
  constexpr int64_t kBad = 5;
  for (RandomWeight w : every_weight(19, 512)) {
    if (w.format == QuantFormat::kMlxAffine) continue;  // its scales lie elsewhere
    const size_t row = w.bytes.size() / static_cast<size_t>(w.rows);
    for (size_t i = 0; i < w.bytes.size(); ++i) w.bytes[i] = std::byte(i / row == kBad ? 255 : 0);
    std::vector<cpu::MatrixRef> refs = {w.ref()};
    Packed p;
    if (cpu::has_packed_form(w.ref())) refs.push_back((p = packed(w.ref())).ref);
    for (const cpu::MatrixRef& ref : refs) {
      for (const int64_t columns : {int64_t{3}, int64_t{20}, cpu::kMostDotColumns + 15}) {
        const auto out = product(ref, exact_activations(columns, w.cols, 5), columns, pool);
        for (int64_t i = 0; i < columns * w.rows; ++i) {
          if (i % w.rows == kBad) continue;
          ASSERT_EQ(out[static_cast<size_t>(i)], 0.0f)
              << format_name(w.view()) << " at " << i << " of " << columns << " columns";
        }
      }
    }
  }
}

// A block of activations that holds what is no number makes a number of no product that reads it,
// and changes no other column's bits.
TEST(Matmul, AnActivationThatIsNoNumberMakesNoNumber) {
  ThreadPool pool(2);
  constexpr float kBad[] = {NAN, INFINITY, -INFINITY};
  constexpr int64_t kCols = 256;
  for (const RandomWeight& w : every_weight(19, kCols)) {
    std::vector<cpu::MatrixRef> refs = {w.ref()};
    Packed p;
    if (cpu::has_packed_form(w.ref())) refs.push_back((p = packed(w.ref())).ref);
    for (const cpu::MatrixRef& ref : refs) {
      for (const int64_t columns : {int64_t{1}, int64_t{7}, cpu::kMostDotColumns + 15}) {
        auto x = exact_activations(columns, kCols, 5);
        const auto clean = product(ref, x, columns, pool);
        std::vector<bool> spoiled(static_cast<size_t>(columns));
        for (int64_t c = 0; c < columns; c += 2) {  // positions of a block in turn
          const int64_t at = c / 2 % 8 * 32 + (c * 5 + 3) % 32;
          x[static_cast<size_t>(c * kCols + at)] = kBad[c / 2 % 3];
          spoiled[static_cast<size_t>(c)] = true;
        }
        const auto out = product(ref, x, columns, pool);
        for (size_t i = 0; i < out.size(); ++i) {
          if (spoiled[i / static_cast<size_t>(w.rows)]) {
            ASSERT_FALSE(std::isfinite(out[i])) << format_name(w.view()) << " at " << i;
          } else {
            ASSERT_EQ(out[i], clean[i]) << format_name(w.view()) << " at " << i;
          }
        }
      }
    }
  }
}

// Scales that are a byte: each of its values, a row each.
TEST(Matmul, EveryByteIsAScale) {
  ThreadPool pool(1);
  for (QuantFormat format : {QuantFormat::kMXFP4, QuantFormat::kNVFP4}) {
    RandomWeight w = random_weight(format, 241, 64, 9);  // larger exponents overflow
    const bool mx = format == QuantFormat::kMXFP4;
    for (int64_t r = 0; r < w.rows; ++r) {
      std::byte* row = w.bytes.data() + r * row_bytes(format, w.cols);
      for (int i = 0; i < (mx ? 2 : 4); ++i) row[mx ? 17 * i : i] = static_cast<std::byte>(r);
    }
    if (!cpu::has_packed_form(w.ref())) continue;
    const Packed p = packed(w.ref());
    const auto x = exact_activations(1, w.cols, 5);
    const auto out = product(p.ref, x, 1, pool);
    std::vector<float> weights(static_cast<size_t>(w.cols));
    for (int64_t r = 0; r < w.rows; ++r) {
      dequantize_row(w.view(), r, weights.data());
      double expected = 0, magnitude = 0;
      for (size_t i = 0; i < weights.size(); ++i) {
        expected += double{weights[i]} * x[i];
        magnitude += std::abs(double{weights[i]} * x[i]);
      }
      // The scale times the activations' is rounded to a subnormal number for the smallest.
      ASSERT_NEAR(out[static_cast<size_t>(r)], expected, 2e-6 * magnitude + 1e-40) << r;
    }
  }
}

// Rows of one weight each, long enough for whole vectors and a rest: 21 times the weight, exactly.
void expect_rows_of_one_weight(const RandomWeight& w) {
  ThreadPool pool(1);
  const std::vector<float> ones(static_cast<size_t>(w.cols), 1.0f);
  const auto out = product(w.ref(), ones, 1, pool);
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w.view(), r, row.data());
    const float sum = out[static_cast<size_t>(r)];
    if (std::isnan(row[0])) {
      ASSERT_TRUE(std::isnan(sum)) << format_name(w.view()) << " row " << r;
    } else {
      ASSERT_EQ(sum, static_cast<float>(w.cols) * row[0]) << format_name(w.view()) << " row " << r;
    }
  }
}

TEST(Matmul, EveryByteIsAnFp8Weight) {
  for (QuantFormat format : {QuantFormat::kF8_E4M3, QuantFormat::kF8_E5M2}) {
    RandomWeight w{.format = format, .rows = 256, .cols = 21};
    for (int64_t i = 0; i < w.rows * w.cols; ++i) w.bytes.push_back(std::byte(i / w.cols));
    expect_rows_of_one_weight(w);
  }
}

TEST(Matmul, EveryHalfIsAnF16Weight) {
  RandomWeight w{.format = QuantFormat::kF16, .rows = 65536, .cols = 21};
  for (int64_t i = 0; i < w.rows * w.cols; ++i) {
    w.bytes.push_back(std::byte(i / w.cols & 255));
    w.bytes.push_back(std::byte(i / w.cols >> 8));
  }
  expect_rows_of_one_weight(w);
}

TEST(QuantizeActivations, KeepsTheContractForHardInputs) {
  ThreadPool pool(1);
  std::vector<float> x(96, 0.0f);
  x[33] = 1e-42f;  // denormal: 127 / max overflows
  x[64] = -3.0e38f;
  x[65] = 1.0f;
  cpu::QuantizedActivations q;
  cpu::quantize_activations(x.data(), 96, 1, 96, 1, q, pool);
  EXPECT_EQ(q.scales[0], 0.0f);
  EXPECT_EQ(q.sum32[0], 0);
  for (int8_t v : q.q) EXPECT_GE(v, -127);
  EXPECT_EQ(q.q[64], -127);
  EXPECT_EQ(q.q[65], 0);
}

// At every position of a block, alone and among other kinds; blocks beside it are as ever.
TEST(QuantizeActivations, ABlockWithWhatIsNoNumberHasNoScale) {
  ThreadPool pool(1);
  const std::vector<float> clean = exact_activations(1, 96, 4);
  cpu::QuantizedActivations expected, q;
  cpu::quantize_activations(clean.data(), 96, 1, 96, 1, expected, pool);
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (size_t at = 32; at < 64; ++at) {
      for (const float other : {1.0f, 3.0e38f, -INFINITY}) {
        std::vector<float> x = clean;
        x[at ^ 1] = other;
        x[at] = bad;
        cpu::quantize_activations(x.data(), 96, 1, 96, 1, q, pool);
        ASSERT_TRUE(std::isnan(q.scales[1])) << bad << " at " << at;
        ASSERT_TRUE(std::isnan(q.fsum32[1]) && std::isnan(q.fsum16[2]) && std::isnan(q.fsum16[3]));
        for (size_t i = 0; i < 96; ++i) {
          if (i / 32 == 1) {
            ASSERT_EQ(q.q[i], 0);
          } else {
            ASSERT_EQ(q.q[i], expected.q[i]) << i;
          }
        }
        for (size_t b : {0, 2}) {
          ASSERT_EQ(q.scales[b], expected.scales[b]);
          ASSERT_EQ(q.fsum32[b], expected.fsum32[b]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mlxr
