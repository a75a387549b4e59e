// GGUF and safetensors: what is written is read back, and a damaged file is an error that names it,
// never a crash. Run under ASan for the full effect.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/gguf_reader.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/safetensors.h"
#include "tests/core/temp_folder.h"
#include "tests/core/write_safetensors.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

void write_sample(const fs::path& path) {
  GgufWriter writer;
  writer.add("general.architecture", std::string("llama"));
  writer.add("a.count", int64_t{7});
  writer.add("a.negative", int64_t{-3});
  writer.add("a.large", int64_t{1} << 40);
  writer.add("a.number", 0.5);
  writer.add("a.flag", true);
  writer.add("a.words", GgufArray(std::vector<std::string>{"one", "", "three"}));
  writer.add("a.integers", GgufArray(std::vector<int64_t>{1, -2}));
  writer.add("a.floats", GgufArray(std::vector<double>{0.25, -1}));
  writer.add_tensor("matrix", QuantFormat::kQ8_0, {3, 64}, [](std::span<std::byte> out) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7);
  });
  writer.add_tensor("vector", QuantFormat::kF32, {5}, [](std::span<std::byte> out) {
    const float values[5] = {1, 2, 3, 4, 5};
    std::memcpy(out.data(), values, sizeof(values));
  });
  writer.write(path);
}

TEST(Gguf, ReadsBackWhatWasWritten) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "sample.gguf";
  write_sample(path);
  const auto file = GgufFile::open(path);
  EXPECT_EQ(file->text("general.architecture"), "llama");
  EXPECT_EQ(file->integer("a.count"), 7);
  EXPECT_EQ(file->integer("a.negative"), -3);
  EXPECT_EQ(file->integer("a.large"), int64_t{1} << 40);
  EXPECT_EQ(file->number("a.number"), 0.5);
  EXPECT_EQ(file->number("a.count"), 7.0);
  EXPECT_EQ(file->boolean("a.flag"), true);
  EXPECT_EQ(file->integer("absent"), std::nullopt);
  EXPECT_THROW(file->integer("a.words"), Error);
  EXPECT_EQ(std::get<std::vector<std::string>>(*file->array("a.words"))[2], "three");
  EXPECT_EQ(std::get<std::vector<int64_t>>(*file->array("a.integers"))[1], -2);
  EXPECT_EQ(std::get<std::vector<double>>(*file->array("a.floats"))[0], 0.25);
  const WeightView* matrix = file->find("matrix");
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(matrix->shape, (std::vector<int64_t>{3, 64}));
  EXPECT_EQ(matrix->bytes.size(), 3u * 68);
  EXPECT_EQ(matrix->bytes[1], std::byte{7});
  float values[5];
  dequantize_row(*file->find("vector"), 0, values);
  EXPECT_EQ(values[4], 5.0f);
  EXPECT_EQ(file->find("nothing"), nullptr);
}

TEST(Gguf, ReadsVersionsTwoAndThreeAndNoOther) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "sample.gguf";
  write_sample(path);
  std::string whole = read_file(path);
  for (char version : {1, 2, 3, 4}) {
    whole[4] = version;  // versions 2 and 3 differ in the byte order that they allow, not in layout
    write_file_atomic(path, whole);
    if (version == 2 || version == 3) {
      EXPECT_EQ(GgufFile::open(path)->integer("a.count"), 7);
    } else {
      EXPECT_THROW(GgufFile::open(path), Error);
    }
  }
}

// Opens damaged bytes; every outcome but a clean read or an Error is a failure.
template <class Open>
void expect_error_or_read(const fs::path& path, const std::string& bytes, Open open, int& errors) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  try {
    open(path);
  } catch (const Error& e) {
    ++errors;
    EXPECT_NE(std::string(e.what()).find(path.filename().string()), std::string::npos) << e.what();
  }
}

TEST(Gguf, TruncationAtEveryByteIsAnError) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "sample.gguf";
  write_sample(path);
  const std::string whole = read_file(path);
  const auto file = GgufFile::open(path);
  const size_t end = static_cast<size_t>(file->find("vector")->bytes.data() + 20 -
                                         file->find("matrix")->bytes.data());
  const fs::path cut = folder.path() / "cut.gguf";
  const size_t needed = whole.size() - 32 + 20;  // the padding after the last tensor may go
  ASSERT_GT(end, 0u);
  for (size_t n = 0; n < needed; ++n) {
    int errors = 0;
    expect_error_or_read(cut, whole.substr(0, n), GgufFile::open, errors);
    EXPECT_EQ(errors, 1) << "cut to " << n << " of " << whole.size();
  }
}

TEST(Gguf, FlippedBitsNeverCrash) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "sample.gguf";
  write_sample(path);
  const std::string whole = read_file(path);
  std::mt19937 random(11);
  int errors = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      damaged[random() % damaged.size()] ^= static_cast<char>(1u << (random() % 8));
    }
    expect_error_or_read(folder.path() / "damaged.gguf", damaged, GgufFile::open, errors);
  }
  EXPECT_GT(errors, 200);
}

std::string safetensors_bytes(const std::string& header, size_t data) {
  const uint64_t size = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &size, 8);
  return out + header + std::string(data, 'x');
}

TEST(Safetensors, ReadsTensorsAndRefusesDamage) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "model.safetensors";
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  const std::string whole = safetensors_bytes(header, 24);
  int errors = 0;
  expect_error_or_read(path, whole, Safetensors::open_file, errors);
  EXPECT_EQ(errors, 0);
  const Safetensors file = Safetensors::open_file(path);
  ASSERT_NE(file.find("w"), nullptr);
  EXPECT_EQ(file.find("w")->shape, (std::vector<int64_t>{2, 3}));
  const fs::path bad = folder.path() / "bad.safetensors";
  for (size_t n = 0; n < whole.size(); ++n) {
    errors = 0;
    expect_error_or_read(bad, whole.substr(0, n), Safetensors::open_file, errors);
    EXPECT_EQ(errors, 1) << n;
  }
  for (const char* entry :
       {R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})",
        R"({"w":{"dtype":"F32","shape":[-2,3],"data_offsets":[0,24]}})",
        R"({"w":{"dtype":"F32","shape":[1e300],"data_offsets":[0,24]}})",
        R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24.0]}})",
        R"({"w":{"dtype":"F99","shape":[2,3],"data_offsets":[0,24]}})",
        R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}})",
        R"({"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,24]}})",
        R"({"w":{"shape":[2,3],"data_offsets":[0,24]}})", R"([1,2])", "nonsense"}) {
    errors = 0;
    expect_error_or_read(bad, safetensors_bytes(entry, 24), Safetensors::open_file, errors);
    EXPECT_EQ(errors, 1) << entry;
  }
}

// A header of any length, and tensors of single bytes, put the others wherever they fall. Readers
// and kernels (Matmul.NothingNeedsToBeAligned) take them there.
TEST(Safetensors, ATensorMayLieAtAnOddAddress) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "model.safetensors";
  const float numbers[] = {1.5f, -2.0f, 3.25f};
  std::map<std::string, testing::SafetensorsEntry> entries = {
      {"f16", {"F16", {1, 3}, std::string("\x00\x3e\x00\xc0\x80\x42", 6)}},
      {"f32", {"F32", {1, 3}, std::string(reinterpret_cast<const char*>(numbers), 12)}},
      {"z", {"BF16", {1, 3}, std::string("\xc0\x3f\x00\xc0\x50\x40", 6)}}};
  for (int64_t bytes : {1, 2}) {  // one of the two makes the others' addresses odd
    entries["a"] = {"U8", {bytes}, std::string(static_cast<size_t>(bytes), 'x')};
    testing::write_safetensors(path, entries);
    const Safetensors file = Safetensors::open_file(path);
    for (const char* name : {"f16", "f32", "z"}) {
      float row[3] = {};
      dequantize_row(as_weight(name, *file.find(name)), 0, row);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(row[i], numbers[i]) << name;
    }
  }
}

TEST(Safetensors, AMissingShardIsNamed) {
  const testing::TempFolder folder;
  write_file_atomic(folder.path() / "model.safetensors.index.json",
                    R"({"weight_map":{"w":"model-00001-of-00002.safetensors"}})");
  try {
    Safetensors::open_folder(folder.path());
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("model-00001-of-00002.safetensors"), std::string::npos);
  }
  write_file_atomic(folder.path() / "model.safetensors.index.json",
                    R"({"weight_map":{"w":"../../etc/passwd"}})");
  EXPECT_THROW(Safetensors::open_folder(folder.path()), Error);
}

TEST(MappedFile, EmptyAndMissingFilesAreErrors) {
  const testing::TempFolder folder;
  EXPECT_THROW(MappedFile::open(folder.path() / "absent"), Error);
  write_file_atomic(folder.path() / "empty", "");
  EXPECT_THROW(MappedFile::open(folder.path() / "empty"), Error);
  EXPECT_THROW(MappedFile::open(folder.path()), Error);
}

}  // namespace
}  // namespace mlxr
