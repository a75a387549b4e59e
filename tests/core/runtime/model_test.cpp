// Opening models: MLX-quantised folders compute what their weights say, and what is missing or
// damaged is named in one sentence.
#include "core/runtime/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/runtime/convert.h"
#include "core/runtime/engine.h"
#include "tests/core/random_weights.h"
#include "tests/core/temp_folder.h"
#include "tests/core/write_safetensors.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::bytes_of;
using testing::write_safetensors;
using Entry = testing::SafetensorsEntry;

const fs::path kDraft = testing::source_dir() / "models/mlxr-demo-draft";

// MLX's affine scheme: scale and bias from the extremes of each group, q packed from the low bit
// up.
struct Affine {
  std::vector<uint32_t> packed;
  std::vector<float> scales, biases, values;  // values: what the packed weights stand for
};

Affine quantise(const std::vector<float>& w, int bits, int group) {
  Affine out;
  out.packed.resize(w.size() * static_cast<size_t>(bits) / 32);
  out.values.resize(w.size());
  const auto most = static_cast<float>((1 << bits) - 1);
  for (size_t at = 0; at < w.size(); at += static_cast<size_t>(group)) {
    const auto [low, high] =
        std::minmax_element(w.begin() + static_cast<std::ptrdiff_t>(at),
                            w.begin() + static_cast<std::ptrdiff_t>(at) + group);
    const float bias = *low, scale = std::max((*high - *low) / most, 1e-8f);
    out.scales.push_back(scale);
    out.biases.push_back(bias);
    for (size_t i = at; i < at + static_cast<size_t>(group); ++i) {
      const auto q =
          static_cast<uint32_t>(std::clamp(std::round((w[i] - bias) / scale), 0.0f, most));
      out.values[i] = scale * static_cast<float>(q) + bias;
      const size_t bit = i * static_cast<size_t>(bits);
      const uint64_t wide = static_cast<uint64_t>(q) << (bit % 32);
      out.packed[bit / 32] |= static_cast<uint32_t>(wide);
      if (wide >> 32) out.packed[bit / 32 + 1] |= static_cast<uint32_t>(wide >> 32);
    }
  }
  return out;
}

// Writes the draft model twice: MLX-quantised, and as the float32 values that it then stands for.
void write_twins(const fs::path& mlx, const fs::path& plain, int bits, int group) {
  const Safetensors source = Safetensors::open_folder(kDraft);
  std::map<std::string, Entry> quantised, values;
  for (const auto& [name, tensor] : source.tensors()) {
    WeightView view = as_weight(name, tensor);
    std::vector<float> w(static_cast<size_t>(view.elements()));
    if (view.shape.size() == 1) view.shape = {1, view.shape[0]};
    for (int64_t r = 0; r < view.rows(); ++r)
      dequantize_row(view, r, w.data() + r * view.columns());
    if (tensor.shape.size() == 1) {
      quantised[name] = values[name] = {"F32", tensor.shape, bytes_of(w)};
      continue;
    }
    const Affine affine = quantise(w, bits, group);
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    const std::vector<int64_t> groups = {tensor.shape[0], tensor.shape[1] / group};
    quantised[name] = {
        "U32", {tensor.shape[0], tensor.shape[1] * bits / 32}, bytes_of(affine.packed)};
    quantised[module + ".scales"] = {"F32", groups, bytes_of(affine.scales)};
    quantised[module + ".biases"] = {"F32", groups, bytes_of(affine.biases)};
    values[name] = {"F32", tensor.shape, bytes_of(affine.values)};
  }
  json config = json::parse(read_file(kDraft / "config.json"));
  for (const fs::path& folder : {mlx, plain}) {
    fs::create_directories(folder);
    fs::copy_file(kDraft / "tokenizer.json", folder / "tokenizer.json");
  }
  write_file_atomic(plain / "config.json", config.dump());
  write_safetensors(plain / "model.safetensors", values);
  config["quantization"] = {{"group_size", group}, {"bits", bits}};
  write_file_atomic(mlx / "config.json", config.dump());
  write_safetensors(mlx / "model.safetensors", quantised);
}

std::vector<float> logits_of(const fs::path& path) {
  Engine engine(load_model(path), {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence();
  const std::vector<int32_t> prompt = {1, 3029, 204, 383, 17, 900, 4012, 2, 5, 77};
  const SequenceSlice slice{.kv = &kv, .tokens = prompt};
  const StepLogits logits = engine.step(std::span(&slice, 1));
  return {logits.row(0).begin(), logits.row(0).end()};
}

TEST(MlxFolder, ComputesWhatItsWeightsSay) {
  for (const auto& [bits, group] : {std::pair{4, 64}, {8, 32}, {3, 32}, {6, 128}}) {
    const testing::TempFolder folder;
    write_twins(folder.path() / "mlx", folder.path() / "plain", bits, group);
    const ModelFacts facts = read_model_facts(folder.path() / "mlx");
    EXPECT_EQ(facts.format, ModelFormat::kMlx);
    EXPECT_EQ(facts.quantization, "MLX" + std::to_string(bits) + "-G" + std::to_string(group));
    const auto quantised = logits_of(folder.path() / "mlx");
    const auto plain = logits_of(folder.path() / "plain");
    const auto [low, high] = std::minmax_element(plain.begin(), plain.end());
    double worst = 0;
    for (size_t i = 0; i < plain.size(); ++i) {
      worst = std::max(worst, std::abs(double{quantised[i]} - plain[i]));
    }
    // What int8 activations cost; a wrong group or bit order costs a hundred times that.
    EXPECT_LT(worst, 0.03 * (*high - *low)) << bits << " bits";
  }
}

// The message of the Error that loading throws, and its code.
std::pair<std::string, ErrorCode> failure(const fs::path& path) {
  try {
    load_model(path);
  } catch (const Error& e) {
    return {e.what(), e.code()};
  }
  return {"", ErrorCode::kInternal};
}

void expect_failure(const fs::path& path, ErrorCode code, const std::string& says) {
  const auto [message, got] = failure(path);
  EXPECT_EQ(got, code) << message;
  EXPECT_NE(message.find(says), std::string::npos) << message;
}

// A copy of the draft model that a test then spoils.
class SpoiledModel : public ::testing::Test {
 protected:
  SpoiledModel() { fs::copy(kDraft, path_, fs::copy_options::recursive); }
  void change_config(const std::string& key, const json& value) {
    json config = json::parse(read_file(path_ / "config.json"));
    config[key] = value;
    write_file_atomic(path_ / "config.json", config.dump());
  }
  testing::TempFolder folder_;
  fs::path path_ = folder_.path() / "model";
};

TEST_F(SpoiledModel, IsNamedForWhatItLacks) {
  EXPECT_EQ(failure(path_).first, "");  // untouched, it loads
  fs::rename(path_ / "tokenizer.json", path_ / "gone.json");
  expect_failure(path_, ErrorCode::kNotFound, "tokenizer.json is missing");
  fs::rename(path_ / "gone.json", path_ / "tokenizer.json");
  change_config("model_type", "transmogrifier");
  expect_failure(path_, ErrorCode::kUnsupported, "architecture \"transmogrifier\"");
  change_config("model_type", 5);
  expect_failure(path_, ErrorCode::kCorruptFile, "wrong type");
  write_file_atomic(path_ / "config.json", "{ not json");
  expect_failure(path_, ErrorCode::kCorruptFile, "config.json");
  fs::remove(path_ / "config.json");
  expect_failure(path_, ErrorCode::kNotFound, "config.json");
  expect_failure(folder_.path() / "nowhere", ErrorCode::kNotFound, "nowhere");
}

TEST_F(SpoiledModel, NumbersThatCannotBeAreRefused) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"num_hidden_layers", 0},
                                                 {"num_hidden_layers", -1},
                                                 {"num_attention_heads", 0},
                                                 {"num_key_value_heads", 3},
                                                 {"hidden_size", 1 << 30},
                                                 {"vocab_size", 12345},
                                                 {"head_dim", 63},
                                                 {"intermediate_size", "many"},
                                                 {"num_attention_heads", 4e9},
                                                 {"rope_parameters", {{"rope_theta", -1}}}}) {
    const std::string before = read_file(path_ / "config.json");
    change_config(key, value);
    const auto [message, code] = failure(path_);
    EXPECT_TRUE(code == ErrorCode::kCorruptFile) << key << " = " << value << ": " << message;
    EXPECT_NE(message, "") << key;
    write_file_atomic(path_ / "config.json", before);
  }
}

TEST_F(SpoiledModel, TruncatedAndEmptyWeightsAreRefused) {
  const fs::path weights = path_ / "model.safetensors";
  const auto size = fs::file_size(weights);
  for (uintmax_t left : {size - 1, size / 2, uintmax_t{100}, uintmax_t{7}, uintmax_t{0}}) {
    fs::resize_file(weights, left);
    expect_failure(path_, ErrorCode::kCorruptFile, "model.safetensors");
  }
}

TEST_F(SpoiledModel, GgufWithoutPartsSaysWhich) {
  const fs::path gguf = folder_.path() / "m.gguf";
  fs::remove(path_ / "tokenizer.json");
  convert_to_gguf(path_, gguf, QuantFormat::kQ8_0);
  expect_failure(gguf, ErrorCode::kCorruptFile, "no tokenizer");
  EXPECT_NO_THROW(load_model(gguf, {.require_tokenizer = false}));
  EXPECT_THROW(convert_to_gguf(path_, gguf, QuantFormat::kIQ2_XS), Error);
}

TEST(ModelPath, TellsModelsFromOtherFiles) {
  EXPECT_TRUE(is_model_path(kDraft));
  EXPECT_FALSE(is_model_path(kDraft.parent_path()));
  EXPECT_FALSE(is_model_path(kDraft / "config.json"));
  EXPECT_FALSE(is_model_path("/nowhere/x.gguf"));
}

}  // namespace
}  // namespace mlxr
