// LoRA adapters: an adapted model computes what the same model computes whose weights have the
// adapter merged into them, from either format on models of either format; in a batch everyone has
// the bits that they get alone; and what is not applied is refused by name.
#include "core/runtime/adapters/adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <tuple>

#include "core/base/error.h"
#include "core/runtime/convert.h"
#include "core/runtime/engine.h"
#include "tests/core/random_adapter.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::RandomAdapter;
using testing::TempFolder;
using Ids = std::vector<int32_t>;
using Adapters = std::vector<ScaledAdapter>;

const fs::path kGoldens = testing::source_dir() / "tests/goldens";

ThreadPool& pool() {
  static ThreadPool threads(2);
  return threads;
}

std::shared_ptr<const Model> load(const fs::path& path) {
  return load_model(path, {.repack = std::make_shared<ThreadPool>(2), .require_tokenizer = false});
}

const Ids kPrompt = {1, 17, 200, 33, 319, 4, 5, 77, 18, 250, 9, 41, 0, 300, 12, 63, 2, 90, 111, 7};

// Of all tokens, one after the other.
std::vector<float> logits_of(const std::shared_ptr<const Model>& model,
                             const Adapters& adapters = {}) {
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence();
  const SequenceSlice slice{
      .kv = &kv, .tokens = kPrompt, .logits = SequenceSlice::Logits::kAll, .adapters = adapters};
  const StepLogits logits = engine.step(std::span(&slice, 1));
  std::vector<float> out;
  for (int32_t r = 0; r < logits.rows(); ++r) {
    out.insert(out.end(), logits.row(r).begin(), logits.row(r).end());
  }
  return out;
}

// The largest difference over the standard deviation of `expected`; a NaN counts as infinite.
double deviation(const std::vector<float>& got, const std::vector<float>& expected) {
  double sum = 0, squares = 0, largest = 0;
  for (float v : expected) sum += v;
  const double mean = sum / static_cast<double>(expected.size());
  for (float v : expected) squares += (v - mean) * (v - mean);
  const double spread = std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(double{got[i]} - expected[i]) / spread;
    if (!(error <= largest)) largest = std::isnan(error) ? INFINITY : error;
  }
  return largest;
}

constexpr double kSame = 2e-4, kOther = 0.1;

class AdaptedFamily : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path merged(const std::vector<std::pair<const RandomAdapter*, double>>& adapters) {
    const fs::path to = folder_.path() / ("merged" + std::to_string(count_++));
    testing::write_merged(source_, to, adapters);
    return to;
  }
  std::shared_ptr<const Adapter> peft(const RandomAdapter& adapter, const Model& model,
                                      const std::string& dtype = "F32") {
    const fs::path to = folder_.path() / ("peft" + std::to_string(count_++));
    testing::write_peft(to, adapter, dtype);
    return load_adapter(to, model, pool());
  }
  std::shared_ptr<const Adapter> gguf(const RandomAdapter& adapter, const Model& model,
                                      QuantFormat format = QuantFormat::kF32) {
    const fs::path to = folder_.path() / ("a" + std::to_string(count_++) + ".gguf");
    const bool alternate = family_of_hf(model_->facts.architecture, "").gguf_interleaves_qk;
    testing::write_gguf_adapter(to, adapter, model_->spec, alternate, format);
    return load_adapter(to, model, pool());
  }

  const fs::path source_ = kGoldens / GetParam();
  const std::shared_ptr<const Model> model_ = load(source_);
  TempFolder folder_;
  int count_ = 0;
};

TEST_P(AdaptedFamily, ComputesWhatTheMergedWeightsDo) {
  const RandomAdapter adapter = testing::random_adapter(*model_, 4, 8, 1);
  const auto expected = logits_of(load(merged({{&adapter, 0.5}})));
  EXPECT_GT(deviation(logits_of(model_), expected), kOther);
  for (const char* dtype : {"F32", "F16", "BF16"}) {
    const auto loaded = peft(adapter, *model_, dtype);
    EXPECT_LE(deviation(logits_of(model_, {{loaded, 0.5f}}), expected), kSame) << dtype;
    EXPECT_EQ(loaded->rank, 4);
    EXPECT_GT(loaded->bytes, 0);
  }
  for (QuantFormat format : {QuantFormat::kF32, QuantFormat::kF16, QuantFormat::kBF16}) {
    const auto loaded = gguf(adapter, *model_, format);
    EXPECT_LE(deviation(logits_of(model_, {{loaded, 0.5f}}), expected), kSame);
  }
}

TEST_P(AdaptedFamily, ItsMemoryIsKnownBeforeItIsLoaded) {
  const RandomAdapter adapter = testing::random_adapter(*model_, 32, 8, 5);
  const auto expect_known = [&](const Adapter& loaded) {
    const AdapterMemory known = read_adapter_memory(loaded.path, model_->facts, model_->spec);
    EXPECT_EQ(known.bytes, loaded.bytes) << loaded.path;
    EXPECT_EQ(known.rank, loaded.rank);
  };
  for (const char* dtype : {"F32", "BF16"}) expect_known(*peft(adapter, *model_, dtype));
  for (QuantFormat format : {QuantFormat::kF16, QuantFormat::kQ8_0}) {
    expect_known(*gguf(adapter, *model_, format));
  }
  EXPECT_THROW(read_adapter_memory(folder_.path() / "none", model_->facts, model_->spec), Error);
}

TEST_P(AdaptedFamily, StackedAdaptersAddUp) {
  const RandomAdapter first = testing::random_adapter(*model_, 3, 8, 2, "attn");
  const RandomAdapter second = testing::random_adapter(*model_, 16, 4, 3);
  const auto expected = logits_of(load(merged({{&first, 0.25}, {&second, -1.5}})));
  const auto got =
      logits_of(model_, {{peft(first, *model_), 0.25f}, {gguf(second, *model_), -1.5f}});
  EXPECT_LE(deviation(got, expected), kSame);
}

// Mistral's window cannot be said in GGUF.
TEST_P(AdaptedFamily, BothFormatsAdaptAGgufModel) {
  if (std::string(GetParam()) == "mistral") return;
  const fs::path file = folder_.path() / "model.gguf";
  convert_to_gguf(source_, file, QuantFormat::kF32);
  const auto model = load(file);
  const RandomAdapter adapter = testing::random_adapter(*model_, 4, 8, 4);
  const auto expected = logits_of(load(merged({{&adapter, 1}})));
  EXPECT_LE(deviation(logits_of(model, {{peft(adapter, *model), 1}}), expected), kSame);
  EXPECT_LE(deviation(logits_of(model, {{gguf(adapter, *model), 1}}), expected), kSame);
}

INSTANTIATE_TEST_SUITE_P(Goldens, AdaptedFamily,
                         ::testing::Values("llama", "llama-bias", "mistral", "qwen2", "qwen3",
                                           "gemma2", "gemma3", "stablelm", "starcoder2"));

// ---- In a batch ----

// A model of quantised weights, whose kernels quantise what they multiply.
class AdaptersInABatch : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    const fs::path source = testing::source_dir() / "models/mlxr-demo-draft";
    const auto plain = load(source);
    convert_to_gguf(source, folder_->path() / "m.gguf", QuantFormat::kQ8_0);
    model_ = load(folder_->path() / "m.gguf");
    for (uint32_t i = 0; i < 3; ++i) {
      const fs::path to = folder_->path() / std::to_string(i);
      testing::write_peft(to, testing::random_adapter(*plain, 4 + 8 * i, 8, 10 + i),
                          i == 1 ? "BF16" : "F32");
      loaded_.push_back(load_adapter(to, *model_, pool()));
    }
  }
  static void TearDownTestSuite() {
    loaded_.clear();
    model_.reset();
    folder_.reset();
  }
  static Ids prompt(size_t length, uint32_t seed) {
    std::mt19937 random(seed);
    Ids ids;
    for (size_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(random() % 6000));
    return ids;
  }
  static std::vector<float> alone(const Ids& ids, const Adapters& adapters, size_t chunk = 1000) {
    Engine engine(model_, {}, std::make_shared<ThreadPool>(1));
    KvSequence kv = engine.new_sequence();
    StepLogits logits;
    for (size_t at = 0; at < ids.size(); at += chunk) {
      const SequenceSlice slice{
          .kv = &kv,
          .tokens = std::span(ids).subspan(at, std::min(chunk, ids.size() - at)),
          .adapters = adapters};
      logits = engine.step(std::span(&slice, 1));
    }
    return {logits.row(0).begin(), logits.row(0).end()};
  }

  static std::unique_ptr<TempFolder> folder_;
  static std::shared_ptr<const Model> model_;
  static std::vector<std::shared_ptr<const Adapter>> loaded_;
};
std::unique_ptr<TempFolder> AdaptersInABatch::folder_;
std::shared_ptr<const Model> AdaptersInABatch::model_;
std::vector<std::shared_ptr<const Adapter>> AdaptersInABatch::loaded_;

TEST_F(AdaptersInABatch, CompanyChangesNothing) {
  struct Member {
    Ids ids;
    Adapters adapters;
  };
  const Adapters a{{loaded_[0], 1}}, b{{loaded_[1], 0.7f}},
      stack{{loaded_[2], 0.3f}, {loaded_[0], 1}};
  // Neighbours with the same adapters, and with the same ones in another order or strength.
  const std::vector<Member> members = {{prompt(1, 1), a},
                                       {prompt(1, 2), a},
                                       {prompt(40, 3), {}},
                                       {prompt(33, 4), b},
                                       {prompt(7, 5), stack},
                                       {prompt(1, 6), {{loaded_[0], 1}, {loaded_[2], 0.3f}}},
                                       {prompt(1, 7), {{loaded_[0], 0.5f}}},
                                       {prompt(70, 8), {}},
                                       {prompt(1, 9), {}},
                                       {prompt(12, 10), a}};
  for (int threads : {1, 3}) {
    Engine engine(model_, {}, std::make_shared<ThreadPool>(threads));
    std::vector<KvSequence> kv;
    for (size_t i = 0; i < members.size(); ++i) kv.push_back(engine.new_sequence());
    std::vector<SequenceSlice> slices;
    for (size_t i = 0; i < members.size(); ++i) {
      slices.push_back({.kv = &kv[i],
                        .tokens = members[i].ids,
                        // One that asks for nothing, one that asks for all.
                        .logits = i == 3   ? SequenceSlice::Logits::kNone
                                  : i == 4 ? SequenceSlice::Logits::kAll
                                           : SequenceSlice::Logits::kLast,
                        .adapters = members[i].adapters});
    }
    const StepLogits logits = engine.step(slices);
    int32_t row = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (i == 3) continue;
      row += i == 4 ? 6 : 0;
      EXPECT_TRUE(std::ranges::equal(logits.row(row++), alone(members[i].ids, members[i].adapters)))
          << "member " << i << ", " << threads << " threads";
    }
    // The one without logits goes on: its K/V are those of its adapters.
    const Ids next = {5};
    Ids all = members[3].ids;
    all.push_back(5);
    const SequenceSlice more{.kv = &kv[3], .tokens = next, .adapters = members[3].adapters};
    EXPECT_TRUE(std::ranges::equal(engine.step(std::span(&more, 1)).row(0), alone(all, b)));
  }
}

TEST_F(AdaptersInABatch, TheAdaptersActAndChunksChangeNothing) {
  const Ids ids = prompt(75, 20);
  std::vector<std::vector<float>> results;
  for (const Adapters& adapters :
       {Adapters{}, Adapters{{loaded_[0], 1}}, Adapters{{loaded_[0], 0.5f}},
        Adapters{{loaded_[1], 1}}, Adapters{{loaded_[0], 1}, {loaded_[1], 1}}}) {
    results.push_back(alone(ids, adapters));
    for (size_t chunk : {1, 32, 50}) EXPECT_EQ(alone(ids, adapters, chunk), results.back());
    for (size_t i = 0; i + 1 < results.size(); ++i) {
      EXPECT_GT(deviation(results[i], results.back()), 1e-3);
    }
  }
}

TEST_F(AdaptersInABatch, OneOfAnotherModelIsRefused) {
  const auto llama = load(kGoldens / "llama");
  const TempFolder folder;
  testing::write_peft(folder.path(), testing::random_adapter(*llama, 2, 2, 1));
  const auto other = load_adapter(folder.path(), *llama, pool());
  EXPECT_THROW(alone({1, 2}, {{other, 1}}), Error);
  EXPECT_THROW(alone({1, 2}, {{nullptr, 1}}), Error);
}

// ---- What files may say ----

class AdapterFiles : public ::testing::Test {
 protected:
  AdapterFiles() {
    config_ = testing::peft_config(adapter_);
    tensors_ = testing::peft_tensors(adapter_);
  }
  std::shared_ptr<const Adapter> read() {
    const fs::path to = folder_.path() / std::to_string(count_++);
    testing::write_peft(to, config_, tensors_);
    return load_adapter(to, *model_, pool());
  }
  void expect_refusal(ErrorCode code, const std::vector<std::string>& words,
                      const std::function<void()>& load) {
    try {
      load();
      ADD_FAILURE() << "no error about " << words.front();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      for (const std::string& word : words) {
        EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
      }
    }
  }
  void expect_refusal(ErrorCode code, const std::vector<std::string>& words) {
    expect_refusal(code, words, [&] { read(); });
  }

  const std::shared_ptr<const Model> model_ = load(kGoldens / "llama");
  const RandomAdapter adapter_ = testing::random_adapter(*model_, 4, 6, 1);
  const std::string q_ = "base_model.model.model.layers.1.self_attn.q_proj";
  json config_;
  std::map<std::string, testing::SafetensorsEntry> tensors_;
  TempFolder folder_;
  int count_ = 0;
};

TEST_F(AdapterFiles, ScalesFollowTheConfig) {
  const auto scale = [](const Adapter& adapter, int layer) {
    return adapter.weights->layers[static_cast<size_t>(layer)].q->scale;
  };
  EXPECT_FLOAT_EQ(scale(*read(), 1), 6.0f / 4);
  config_["use_rslora"] = true;
  EXPECT_FLOAT_EQ(scale(*read(), 1), 6.0f / 2);
  config_["use_rslora"] = false;
  config_["alpha_pattern"] = {{"layers.1.self_attn.q_proj", 20}};
  EXPECT_FLOAT_EQ(scale(*read(), 1), 5.0f);
  EXPECT_FLOAT_EQ(scale(*read(), 0), 1.5f);
  tensors_[q_ + ".lora_A.weight"] = {"F32", {2, 128}, std::string(2 * 128 * 4, '\0')};
  tensors_[q_ + ".lora_B.weight"] = {"F32", {128, 2}, std::string(2 * 128 * 4, '\0')};
  config_["rank_pattern"] = {{"layers.1.self_attn.q_proj", 2}};
  EXPECT_FLOAT_EQ(scale(*read(), 1), 10.0f);
  config_["alpha_pattern"] = {{"layers.*.q_proj", 20}};
  expect_refusal(ErrorCode::kUnsupported, {"alpha_pattern", "layers.*.q_proj"});
}

TEST_F(AdapterFiles, IdentityIsOfTheContent) {
  const auto first = read(), again = read();
  EXPECT_NE(first->path, again->path);
  EXPECT_EQ(first->identity, again->identity);
  config_["lora_alpha"] = 7;
  const auto stronger = read();
  EXPECT_NE(first->identity, stronger->identity);
  config_["lora_alpha"] = 6;
  tensors_[q_ + ".lora_A.weight"].bytes[2] += 1;
  EXPECT_NE(first->identity, read()->identity);
  EXPECT_TRUE(is_adapter_path(first->path));
  EXPECT_FALSE(is_adapter_path(kGoldens / "llama"));

  const auto salt = [](const std::string& text, const Adapters& adapters) {
    return kv_salt(text, adapters);
  };
  const std::set<std::string> salts = {
      salt("", {}),
      salt("x", {}),
      salt("", {{first, 1}}),
      salt("x", {{first, 1}}),
      salt("", {{first, 0.5f}}),
      salt("", {{stronger, 1}}),
      salt("", {{first, 1}, {stronger, 1}}),
      salt("", {{stronger, 1}, {first, 1}}),
      salt(salt("", {{first, 1}}), {}),  // a client's salt that imitates an adapter
      salt(std::string(1, '\0'), {}),
  };
  EXPECT_EQ(salts.size(), 10U);
  EXPECT_EQ(salt("", {{first, 1}}), salt("", {{again, 1}}));
  EXPECT_EQ(salt("x", {}), "x");
}

TEST_F(AdapterFiles, ShapesAreHeldAgainstTheModel) {
  const auto good = tensors_;
  tensors_[q_ + ".lora_A.weight"] = {"F32", {4, 64}, std::string(4 * 64 * 4, '\0')};
  expect_refusal(ErrorCode::kCorruptFile,
                 {q_ + ".lora_A.weight", "[4, 64]", "[4, 128]", "another model"});
  tensors_ = good;
  tensors_[q_ + ".lora_B.weight"] = {"F32", {64, 4}, std::string(4 * 64 * 4, '\0')};
  expect_refusal(ErrorCode::kCorruptFile, {q_ + ".lora_B.weight", "[64, 4]", "[128, 4]"});
  tensors_[q_ + ".lora_B.weight"] = {"F32", {128, 2}, std::string(2 * 128 * 4, '\0')};
  expect_refusal(ErrorCode::kCorruptFile, {q_ + ".lora_B.weight", "[128, 2]", "[128, 4]"});
  tensors_[q_ + ".lora_B.weight"] = {"F32", {512}, std::string(512 * 4, '\0')};
  expect_refusal(ErrorCode::kCorruptFile, {q_ + ".lora_B.weight", "[512]", "matrix"});
  tensors_ = good;
  config_["r"] = 8;
  expect_refusal(ErrorCode::kCorruptFile, {"lora_A.weight", "rank is 4", "states 8"});
  config_["r"] = 4;
  tensors_.erase(q_ + ".lora_B.weight");
  expect_refusal(ErrorCode::kCorruptFile, {"lacks", q_ + ".lora_B.weight"});
  tensors_ = good;
  tensors_[q_ + ".lora_A.weight"] = {"I32", {4, 128}, std::string(4 * 128 * 4, '\0')};
  expect_refusal(ErrorCode::kUnsupported, {q_ + ".lora_A.weight", "I32"});
  tensors_.clear();
  expect_refusal(ErrorCode::kCorruptFile, {"adapts nothing"});
}

TEST_F(AdapterFiles, WhatIsNotAppliedIsRefusedByName) {
  const json good = config_;
  for (const auto& [key, value, word] : std::vector<std::tuple<std::string, json, std::string>>{
           {"use_dora", true, "DoRA"},
           {"bias", "lora_only", "bias"},
           {"lora_bias", true, "lora_bias"},
           {"modules_to_save", {"lm_head"}, "modules_to_save"},
           {"fan_in_fan_out", true, "fan_in_fan_out"},
           {"init_lora_weights", "pissa_niter_16", "pissa_niter_16"},
           {"peft_type", "IA3", "IA3"},
           {"peft_type", nullptr, "peft_type"},
           {"rank_pattern", {{"^model.layers", 3}}, "rank_pattern"},
       }) {
    config_ = good;
    config_[key] = value;
    expect_refusal(ErrorCode::kUnsupported, {"adapter_config.json", word});
  }
  config_ = good;
  config_["r"] = "four";
  expect_refusal(ErrorCode::kCorruptFile, {"adapter_config.json"});
  config_ = good;
  const auto good_tensors = tensors_;
  const auto one = [&](const std::string& name) {
    tensors_ = good_tensors;
    tensors_[name] = {"F32", {4, 128}, std::string(4 * 128 * 4, '\0')};
    expect_refusal(ErrorCode::kUnsupported, {name});
  };
  one(q_ + ".lora_magnitude_vector");
  one(q_ + ".lora_B.bias");
  one("base_model.model.model.embed_tokens.lora_embedding_A");
  one("base_model.model.lm_head.weight");
  one("base_model.model.score.weight");
  const auto pair = [&](const std::string& module) {
    tensors_ = good_tensors;
    tensors_["base_model.model." + module + ".lora_A.weight"] = {
        "F32", {4, 128}, std::string(4 * 128 * 4, '\0')};
    tensors_["base_model.model." + module + ".lora_B.weight"] = {
        "F32", {128, 4}, std::string(128 * 4 * 4, '\0')};
  };
  pair("model.layers.2.self_attn.q_proj");  // there are two layers
  expect_refusal(ErrorCode::kUnsupported, {"model.layers.2.self_attn.q_proj", "another model"});
  pair("lm_head");
  expect_refusal(ErrorCode::kUnsupported, {"lm_head", "vocabulary"});
  pair("model.layers.0.mlp.experts.3.up_proj");
  expect_refusal(ErrorCode::kUnsupported, {"experts.3.up_proj", "mixture"});
}

TEST_F(AdapterFiles, FilesThatAreNoAdapters) {
  const auto expect = [&](ErrorCode code, const fs::path& path,
                          const std::vector<std::string>& words) {
    expect_refusal(code, words, [&] { load_adapter(path, *model_, pool()); });
  };
  expect(ErrorCode::kNotFound, folder_.path() / "nothing", {"nothing"});
  fs::create_directories(folder_.path() / "pickled");
  write_file_atomic(folder_.path() / "pickled/adapter_config.json", config_.dump());
  write_file_atomic(folder_.path() / "pickled/adapter_model.bin", "x");
  expect(ErrorCode::kNotFound, folder_.path() / "pickled", {"adapter_model.bin"});
  const fs::path file = folder_.path() / "m.gguf";
  convert_to_gguf(kGoldens / "llama", file, QuantFormat::kF16);
  expect(ErrorCode::kUnsupported, file, {"\"model\"", "adapter"});
  EXPECT_FALSE(is_adapter_path(file));

  ModelSpec spec = model_->spec;
  spec.architecture = "qwen2";
  testing::write_gguf_adapter(file, adapter_, spec, true);
  EXPECT_TRUE(is_adapter_path(file));
  expect(ErrorCode::kInvalidArgument, file, {"qwen2", "llama"});
  RandomAdapter more = adapter_;
  more.matrices[0].gguf = "token_embd";
  testing::write_gguf_adapter(file, more, model_->spec, true);
  expect(ErrorCode::kUnsupported, file, {"token_embd.weight.lora_a", "embeddings"});
  more.matrices[0].gguf = "blk.0.ffn_up_exps";
  testing::write_gguf_adapter(file, more, model_->spec, true);
  expect(ErrorCode::kUnsupported, file, {"blk.0.ffn_up_exps", "experts"});
  GgufWriter writer;
  writer.add("general.type", std::string("adapter"));
  writer.add("general.architecture", std::string("llama"));
  writer.add("adapter.type", std::string("control_vector"));
  writer.write(file);
  expect(ErrorCode::kUnsupported, file, {"control_vector"});
}

// Formats with blocks are decoded; their values are the file's.
TEST_F(AdapterFiles, QuantisedGgufIsRead) {
  const RandomAdapter adapter = testing::random_adapter(*model_, 32, 8, 3);
  const fs::path file = folder_.path() / "a.gguf";
  testing::write_gguf_adapter(file, adapter, model_->spec, true, QuantFormat::kQ8_0);
  const auto quantised = load_adapter(file, *model_, pool());
  testing::write_gguf_adapter(file, adapter, model_->spec, true);
  const auto exact = load_adapter(file, *model_, pool());
  const auto expected = logits_of(model_, {{exact, 0.2f}});
  const double off = deviation(logits_of(model_, {{quantised, 0.2f}}), expected);
  EXPECT_GT(off, 0);
  EXPECT_LE(off, 0.05);
}

}  // namespace
}  // namespace mlxr
