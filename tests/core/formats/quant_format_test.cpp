// Every format of the table decodes to the bits that another implementation decodes (fixtures made
// by make_quant_fixtures.py), and no bytes whatever make a decoder misbehave.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/formats/iq_grids.h"
#include "core/formats/safetensors.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

const Safetensors& fixtures() {
  static const Safetensors file = Safetensors::open_file(
      testing::source_dir() / "tests/core/formats/quant_fixtures.safetensors");
  return file;
}

const RawTensor& fixture(const std::string& name) {
  const RawTensor* tensor = fixtures().find(name);
  if (tensor == nullptr) throw std::runtime_error("no fixture " + name);
  return *tensor;
}

std::vector<float> floats(const RawTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / 4);
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

// Formats with a fixture; F32, F16 and BF16 have tests of their conversions.
std::vector<QuantFormatInfo> decoded_formats() {
  std::vector<QuantFormatInfo> out;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.dequantize != nullptr && (f.block_elements > 1 || f.block_bytes == 1)) out.push_back(f);
  }
  return out;
}

// To the bit, zeros' signs included, but for the payload of a NaN: every step is one float32
// operation, in the order in which the other implementation does it.
TEST(QuantFormat, DecodesWhatAnotherImplementationDecodes) {
  for (const QuantFormatInfo& f : decoded_formats()) {
    const std::string name(f.name);
    const RawTensor& blocks = fixture(name + ".blocks");
    const std::vector<float> expected = floats(fixture(name + ".values"));
    ASSERT_EQ(blocks.shape.at(1), f.block_bytes) << name;
    ASSERT_EQ(static_cast<int64_t>(expected.size()), blocks.shape[0] * f.block_elements) << name;
    std::vector<float> actual(expected.size(), -1.0f);
    f.dequantize(blocks.bytes.data(), actual.data(), static_cast<int64_t>(actual.size()));
    for (size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(actual[i])) << name << " element " << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
            << name << " element " << i << ": " << actual[i] << " for " << expected[i];
      }
    }
  }
}

template <class Grid>
void expect_same_grid(const Grid& grid, const std::string& name) {
  const RawTensor& expected = fixture(name + ".grid");
  ASSERT_EQ(expected.bytes.size(), sizeof(grid)) << name;
  EXPECT_EQ(std::memcmp(expected.bytes.data(), grid.data(), sizeof(grid)), 0) << name;
}

TEST(QuantFormat, CodebooksAreThoseOfTheFiles) {
  expect_same_grid(kGridIQ2_XXS, "IQ2_XXS");
  expect_same_grid(kGridIQ2_XS, "IQ2_XS");
  expect_same_grid(kGridIQ2_S, "IQ2_S");
  expect_same_grid(kGridIQ3_XXS, "IQ3_XXS");
  expect_same_grid(kGridIQ3_S, "IQ3_S");
  expect_same_grid(kGridIQ1, "IQ1_S");
}

TEST(QuantFormat, AnyBytesDecodeInBounds) {
  constexpr int64_t kBlocks = 64;
  std::mt19937 random(7);
  for (const QuantFormatInfo& f : decoded_formats()) {
    // Vectors of exactly the size, at an odd address, so that ASan sees a step outside.
    const auto size = static_cast<size_t>(kBlocks * f.block_bytes);
    std::vector<std::byte> bytes(size + 1);
    std::vector<float> out(static_cast<size_t>(kBlocks * f.block_elements));
    for (int round = 0; round < 20; ++round) {
      for (std::byte& b : bytes) {
        b = round == 0 ? std::byte{0xff} : static_cast<std::byte>(random());
      }
      std::fill(out.begin(), out.end(), 12345.678f);  // no format has this value
      f.dequantize(bytes.data() + 1, out.data(), static_cast<int64_t>(out.size()));
      for (float value : out) ASSERT_NE(value, 12345.678f) << f.name << " left an element";
    }
  }
}

TEST(QuantFormat, NamesAndGgufTypesAreDistinct) {
  for (const QuantFormatInfo& f : quant_formats()) {
    EXPECT_EQ(quant_format_by_name(f.name), f.format);
    if (f.gguf_type < 0) continue;
    EXPECT_EQ(quant_format_by_gguf_type(static_cast<uint32_t>(f.gguf_type)), f.format);
    EXPECT_EQ(gguf_type_name(static_cast<uint32_t>(f.gguf_type)), f.name);
  }
  EXPECT_EQ(quant_format_by_name("iq4_xs"), QuantFormat::kIQ4_XS);
  EXPECT_EQ(gguf_type_name(41), "Q1_0");
  EXPECT_EQ(gguf_type_name(1000), "an unknown type");
}

// Encodes and decodes; `values` are whole blocks.
std::vector<float> round_trip(const QuantFormatInfo& f, const std::vector<float>& values) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(f.format, n)));
  f.quantize(values.data(), bytes.data(), n);
  std::vector<float> out(values.size(), NAN);
  f.dequantize(bytes.data(), out.data(), n);
  return out;
}

double relative_rms_error(const std::vector<float>& wanted, const std::vector<float>& got) {
  double error = 0, power = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(double{wanted[i]} - got[i], 2);
    power += std::pow(double{wanted[i]}, 2);
  }
  return std::sqrt(error / power);
}

std::vector<float> normal_values(size_t n) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// What ggml's quantiser (0.25.3, without an importance matrix) leaves of 65536 normal values,
// relative to them; ours is to leave no more.
struct ErrorOfGgml {
  QuantFormat format;
  double error;
};
constexpr ErrorOfGgml kErrorsOfGgml[] = {
    {QuantFormat::kQ4_0, 0.0858}, {QuantFormat::kQ4_1, 0.0782},   {QuantFormat::kQ5_0, 0.0426},
    {QuantFormat::kQ5_1, 0.0377}, {QuantFormat::kQ8_0, 0.0054},   {QuantFormat::kQ2_K, 0.2967},
    {QuantFormat::kQ3_K, 0.1505}, {QuantFormat::kQ4_K, 0.0713},   {QuantFormat::kQ5_K, 0.0361},
    {QuantFormat::kQ6_K, 0.0178}, {QuantFormat::kIQ4_NL, 0.0763}, {QuantFormat::kIQ4_XS, 0.0769},
    {QuantFormat::kMXFP4, 0.1143}};

TEST(Quantize, LeavesNoMoreErrorThanGgml) {
  const std::vector<float> values = normal_values(65536);
  for (const auto& [format, error] : kErrorsOfGgml) {
    const QuantFormatInfo& f = info(format);
    ASSERT_NE(f.quantize, nullptr) << f.name;
    EXPECT_LE(relative_rms_error(values, round_trip(f, values)), error) << f.name;
  }
}

std::vector<QuantFormatInfo> encoded_block_formats() {
  std::vector<QuantFormatInfo> out;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.quantize != nullptr && f.block_elements > 1) out.push_back(f);
  }
  return out;
}

// Blocks that a search for scales could trip over.
TEST(Quantize, HardBlocksStayFiniteAndClose) {
  for (const QuantFormatInfo& f : encoded_block_formats()) {
    std::vector<float> values(256, 0.0f);
    for (float v : round_trip(f, values)) EXPECT_EQ(v, 0.0f) << f.name << " of zeros";
    for (const float constant : {0.5f, -0.5f, 1e-3f}) {
      values.assign(256, constant);
      EXPECT_LE(relative_rms_error(values, round_trip(f, values)), 0.26) << f.name << constant;
    }
    values.assign(256, 0.0f);
    values[77] = -3.0f;  // alone
    EXPECT_LE(relative_rms_error(values, round_trip(f, values)), 0.26) << f.name << " outlier";
    for (const float tiny : {1e-42f, 1e-30f, 1e-7f, 3e4f}) {
      values = normal_values(256);
      for (float& v : values) v *= tiny;
      for (float v : round_trip(f, values)) ASSERT_TRUE(std::isfinite(v)) << f.name << tiny;
    }
  }
}

TEST(Quantize, NotANumberAndInfinityDoNotCrash) {
  for (const QuantFormatInfo& f : encoded_block_formats()) {
    for (const float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
      std::vector<float> values = normal_values(512);
      values[3] = values[300] = bad;
      round_trip(f, values);
      values.assign(256, bad);
      round_trip(f, values);
    }
  }
}

}  // namespace
}  // namespace mlxr
