// What a family gets for a module's name: FP8 weights as they lie, and an error that names the
// tensor where a factor beside a weight would be ignored.
#include "core/graph/tensor_source.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/safetensors.h"
#include "tests/core/temp_folder.h"

namespace mlxr {
namespace {

// A safetensors file of bytes 0, 1, 2 ...
std::unique_ptr<TensorSource> safetensors_with(const testing::TempFolder& folder,
                                               const std::string& header, size_t data) {
  const uint64_t size = header.size();
  std::string whole(8, '\0');
  std::memcpy(whole.data(), &size, 8);
  whole += header;
  for (size_t i = 0; i < data; ++i) whole += static_cast<char>(i);
  const auto path = folder.path() / "model.safetensors";
  write_file_atomic(path, whole);
  return safetensors_source(Safetensors::open_file(path), path.string(), 64);
}

void expect_unsupported(const TensorSource& source, const std::string& module,
                        const std::string& named) {
  try {
    source.weight(module);
    FAIL() << "no error that names " << named;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(e.what()).find(named), std::string::npos) << e.what();
  }
}

TEST(TensorSource, ReadsFp8) {
  const testing::TempFolder folder;
  const auto source = safetensors_with(
      folder, R"({"a.weight":{"dtype":"F8_E4M3","shape":[2,32],"data_offsets":[0,64]},
                  "b.weight":{"dtype":"F8_E5M2","shape":[1,64],"data_offsets":[0,64]}})",
      64);
  const auto a = source->weight("a"), b = source->weight("b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(format_name(*a), "F8_E4M3");
  float row[64];
  dequantize_row(*a, 1, row);
  EXPECT_EQ(row[0], 0.125f);          // 0x20
  EXPECT_EQ(row[0x38 - 0x20], 1.0f);  // bias 7, three bits of mantissa
  EXPECT_EQ(row[0x3c - 0x20], 1.5f);
  dequantize_row(*b, 0, row);
  EXPECT_EQ(row[0x3c], 1.0f);  // bias 15, two bits of mantissa
  EXPECT_EQ(row[0x3e], 1.5f);
}

TEST(TensorSource, RefusesScalesThatItWouldIgnore) {
  const testing::TempFolder folder;
  for (const std::string scale : {"a.weight_scale", "a.weight_scale_inv"}) {
    const auto source = safetensors_with(
        folder,
        R"({"a.weight":{"dtype":"F8_E4M3","shape":[2,32],"data_offsets":[0,64]},")" + scale +
            R"(":{"dtype":"F32","shape":[1],"data_offsets":[64,68]}})",
        68);
    expect_unsupported(*source, "a", scale);
  }
  const auto path = folder.path() / "model.gguf";
  GgufWriter writer;
  const auto zeros = [](std::span<std::byte>) {};
  writer.add_tensor("a.weight", QuantFormat::kNVFP4, {1, 64}, zeros);
  writer.add_tensor("a.scale", QuantFormat::kF32, {1}, zeros);
  writer.add_tensor("b.weight", QuantFormat::kNVFP4, {1, 64}, zeros);
  writer.add_tensor("c.weight", QuantFormat::kF32, {1, 64}, zeros);
  writer.add_tensor("c.scale", QuantFormat::kF32, {64}, zeros);  // a router's, not a factor
  writer.write(path);
  const auto source = gguf_source(GgufFile::open(path));
  expect_unsupported(*source, "a", "a.scale");
  EXPECT_TRUE(source->weight("b"));
  EXPECT_TRUE(source->weight("c"));
}

TEST(TensorSource, RefusesMlxScalesInFp8) {
  const testing::TempFolder folder;
  const auto source =
      safetensors_with(folder, R"({"a.weight":{"dtype":"U32","shape":[1,8],"data_offsets":[0,32]},
                  "a.scales":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[32,33]},
                  "a.biases":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[33,34]}})",
                       34);
  EXPECT_THROW(source->weight("a"), Error);
}

}  // namespace
}  // namespace mlxr
