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

namespace mlxr {
namespace {

const Safetensors& fixtures() {
  static const Safetensors file = Safetensors::open_file(
      std::filesystem::path(MLXR_SOURCE_DIR) / "tests/core/formats/quant_fixtures.safetensors");
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

}  // namespace
}  // namespace mlxr
