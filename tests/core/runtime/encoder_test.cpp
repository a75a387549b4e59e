// The BERT encoder: its golden, an independent float64 computation with token types, its two file
// formats, company in a step, and the classifier head.
#include "core/graph/encoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/safetensors.h"
#include "core/runtime/convert.h"
#include "core/runtime/engine.h"
#include "core/runtime/model.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
using Logits = SequenceSlice::Logits;
using Doubles = std::vector<double>;

const fs::path kBert = testing::source_dir() / "tests/goldens/bert";

std::shared_ptr<const Model> load(const fs::path& path, bool repack = true) {
  return load_model(path, {.repack = repack ? std::make_shared<ThreadPool>(2) : nullptr,
                           .require_tokenizer = false});
}

Ids golden_ids() {
  const Safetensors golden = Safetensors::open_file(kBert / "golden.safetensors");
  const RawTensor& ids = *golden.find("input_ids");
  Ids out(ids.bytes.size() / sizeof(int32_t));
  std::memcpy(out.data(), ids.bytes.data(), ids.bytes.size());
  return out;
}

Ids some_ids(size_t count, int32_t seed) {
  Ids ids;
  for (size_t i = 0; i < count; ++i)
    ids.push_back(static_cast<int32_t>((i * 37 + seed * 101) % 317) + 3);
  return ids;
}

std::vector<float> states_of(const StepLogits& step, int32_t first, size_t count) {
  std::vector<float> out;
  for (size_t i = 0; i < count; ++i) {
    const auto row = step.state(first + static_cast<int32_t>(i));
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

std::vector<float> states(const std::shared_ptr<const Model>& model, const Ids& ids,
                          const Ids& types = {}) {
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence();
  const SequenceSlice slice{
      .kv = &kv, .tokens = ids, .logits = Logits::kAllStates, .token_types = types};
  return states_of(engine.step(std::span(&slice, 1)), 0, ids.size());
}

// ---- BERT as its paper and Hugging Face's configuration describe it, number by number ----

class Reference {
 public:
  explicit Reference(const fs::path& folder)
      : file_(Safetensors::open_folder(folder)),
        config_(nlohmann::json::parse(read_file(folder / "config.json"))),
        hidden_(config_["hidden_size"]) {}

  std::vector<Doubles> states(const Ids& ids, const Ids& types) const {
    std::vector<Doubles> x;
    for (size_t t = 0; t < ids.size(); ++t) {
      Doubles row(hidden_);
      const size_t word = static_cast<size_t>(ids[t]), type = static_cast<size_t>(types[t]);
      for (size_t i = 0; i < hidden_; ++i) {
        row[i] = at("embeddings.word_embeddings.weight", word * hidden_ + i) +
                 at("embeddings.token_type_embeddings.weight", type * hidden_ + i) +
                 at("embeddings.position_embeddings.weight", t * hidden_ + i);
      }
      x.push_back(norm(row, "embeddings.LayerNorm"));
    }
    const int layers = config_["num_hidden_layers"];
    for (int l = 0; l < layers; ++l) x = layer(x, "encoder.layer." + std::to_string(l) + ".");
    return x;
  }

 private:
  double at(const std::string& name, size_t index) const {
    uint16_t half = 0;
    std::memcpy(&half, file_.find(name)->bytes.data() + index * 2, 2);
    const uint32_t bits = uint32_t{half} << 16;
    float value = 0;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  Doubles norm(const Doubles& x, const std::string& name) const {
    double mean = 0, variance = 0;
    for (double v : x) mean += v / static_cast<double>(x.size());
    for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Doubles out;
    for (size_t i = 0; i < x.size(); ++i) {
      out.push_back((x[i] - mean) / std::sqrt(variance + double{config_["layer_norm_eps"]}) *
                        at(name + ".weight", i) +
                    at(name + ".bias", i));
    }
    return out;
  }

  Doubles linear(const Doubles& x, const std::string& name) const {
    const auto rows = file_.find(name + ".bias")->bytes.size() / 2;
    Doubles out;
    for (size_t r = 0; r < rows; ++r) {
      double sum = at(name + ".bias", r);
      for (size_t i = 0; i < x.size(); ++i) sum += at(name + ".weight", r * x.size() + i) * x[i];
      out.push_back(sum);
    }
    return out;
  }

  std::vector<Doubles> layer(const std::vector<Doubles>& x, const std::string& name) const {
    std::vector<Doubles> q, k, v, out;
    for (const Doubles& row : x) {
      q.push_back(linear(row, name + "attention.self.query"));
      k.push_back(linear(row, name + "attention.self.key"));
      v.push_back(linear(row, name + "attention.self.value"));
    }
    for (size_t t = 0; t < x.size(); ++t) {
      Doubles h = sum(x[t], linear(attend(q[t], k, v), name + "attention.output.dense"));
      h = norm(h, name + "attention.output.LayerNorm");
      Doubles inner = linear(h, name + "intermediate.dense");
      for (double& value : inner) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
      out.push_back(norm(sum(h, linear(inner, name + "output.dense")), name + "output.LayerNorm"));
    }
    return out;
  }

  Doubles attend(const Doubles& q, const std::vector<Doubles>& k,
                 const std::vector<Doubles>& v) const {
    const size_t heads = config_["num_attention_heads"], dim = hidden_ / heads;
    Doubles out(hidden_, 0.0);
    for (size_t h = 0; h < heads; ++h) {
      Doubles weights;
      double total = 0;
      for (const Doubles& key : k) {
        double score = 0;
        for (size_t i = h * dim; i < (h + 1) * dim; ++i) score += q[i] * key[i];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(dim))));
        total += weights.back();
      }
      for (size_t t = 0; t < v.size(); ++t) {
        for (size_t i = h * dim; i < (h + 1) * dim; ++i) out[i] += weights[t] / total * v[t][i];
      }
    }
    return out;
  }

  static Doubles sum(Doubles a, const Doubles& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  Safetensors file_;
  nlohmann::json config_;
  size_t hidden_;
};

TEST(Encoder, GivesTheReferenceStates) {
  const Safetensors golden = Safetensors::open_file(kBert / "golden.safetensors");
  std::vector<float> expected(golden.find("hidden")->bytes.size() / sizeof(float));
  std::memcpy(expected.data(), golden.find("hidden")->bytes.data(),
              expected.size() * sizeof(float));
  for (bool repack : {false, true}) {
    const std::vector<float> got = states(load(kBert, repack), golden_ids());
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-3) << i;
  }
}

TEST(Encoder, MatchesFloat64WithTokenTypes) {
  const Ids ids = some_ids(23, 1);
  Ids types(ids.size(), 0);
  std::fill(types.begin() + 9, types.end(), 1);
  const auto expected = Reference(kBert).states(ids, types);
  const std::vector<float> got = states(load(kBert), ids, types);
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t i = 0; i < expected[t].size(); ++i) {
      ASSERT_NEAR(got[t * expected[t].size() + i], expected[t][i], 1e-3) << t << " " << i;
    }
  }
  EXPECT_NE(states(load(kBert), ids), got);
}

TEST(Encoder, CompanyChangesNoBit) {
  const auto model = load(kBert);
  Engine engine(model, {.kv_type = KvType::kF16}, std::make_shared<ThreadPool>(2));
  std::vector<Ids> texts;
  for (size_t length : {1u, 40u, 128u, 17u, 33u}) {
    texts.push_back(some_ids(length, static_cast<int32_t>(length)));
  }
  std::vector<std::vector<float>> alone;
  for (const Ids& text : texts) {
    KvSequence kv = engine.new_sequence();
    const SequenceSlice slice{.kv = &kv, .tokens = text, .logits = Logits::kAllStates};
    alone.push_back(states_of(engine.step(std::span(&slice, 1)), 0, text.size()));
  }
  std::vector<KvSequence> kv;
  for (size_t i = 0; i < texts.size(); ++i) kv.push_back(engine.new_sequence());
  std::vector<SequenceSlice> slices;
  for (size_t i = 0; i < texts.size(); ++i) {
    slices.push_back({.kv = &kv[i], .tokens = texts[i], .logits = Logits::kAllStates});
  }
  const StepLogits together = engine.step(slices);
  int32_t row = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(states_of(together, row, texts[i].size()), alone[i]) << i;
    row += static_cast<int32_t>(texts[i].size());
  }
  kv.clear();
  EXPECT_EQ(engine.pager().free_blocks(), engine.pager().total_blocks());
}

TEST(Encoder, OneLayersMemoryServesAll) {
  const auto model = load(kBert);
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(1));
  EXPECT_EQ(engine.block_bytes(), 2 * 2 * 64 * 32 * 4);  // keys and values, heads, head, tokens
}

TEST(Encoder, RefusesPartsAndLogits) {
  const auto model = load(kBert);
  Engine engine(model, {}, std::make_shared<ThreadPool>(1));
  const Ids ids = some_ids(8, 1);
  KvSequence kv = engine.new_sequence();
  const auto step = [&](Logits logits, const Ids& types = {}) {
    const SequenceSlice slice{.kv = &kv, .tokens = ids, .logits = logits, .token_types = types};
    engine.step(std::span(&slice, 1));
  };
  EXPECT_THROW(step(Logits::kLast), Error);
  EXPECT_THROW(step(Logits::kNone), Error);
  EXPECT_THROW(step(Logits::kAllStates, Ids(8, 2)), Error);
  EXPECT_THROW(step(Logits::kAllStates, Ids(7, 1)), Error);
  step(Logits::kLastState, Ids(8, 1));
  EXPECT_THROW(step(Logits::kLastState), Error);  // it goes on where the text has ended
}

// ---- the same model as GGUF, as llama.cpp's converter names it ----

std::string gguf_name(std::string name) {
  const std::pair<const char*, const char*> parts[] = {
      {"embeddings.word_embeddings", "token_embd"},
      {"embeddings.position_embeddings", "position_embd"},
      {"embeddings.token_type_embeddings", "token_types"},
      {"embeddings.LayerNorm", "token_embd_norm"},
      {"encoder.layer.", "blk."},
      {"attention.self.query", "attn_q"},
      {"attention.self.key", "attn_k"},
      {"attention.self.value", "attn_v"},
      {"attention.output.dense", "attn_output"},
      {"attention.output.LayerNorm", "attn_output_norm"},
      {"intermediate.dense", "ffn_up"},
      {"output.dense", "ffn_down"},
      {"output.LayerNorm", "layer_output_norm"}};
  for (const auto& [from, to] : parts) {
    const size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, std::strlen(from), to);
  }
  return name;
}

void write_gguf(const fs::path& path, int64_t pooling) {
  const Safetensors file = Safetensors::open_folder(kBert);
  GgufWriter writer;
  writer.add("general.architecture", std::string("bert"));
  writer.add("bert.embedding_length", int64_t{128});
  writer.add("bert.block_count", int64_t{2});
  writer.add("bert.context_length", int64_t{128});
  writer.add("bert.feed_forward_length", int64_t{256});
  writer.add("bert.attention.head_count", int64_t{2});
  writer.add("bert.attention.layer_norm_epsilon", 1e-12);
  writer.add("bert.pooling_type", pooling);
  for (const auto& [name, tensor] : file.tensors()) {
    if (name.starts_with("pooler.")) continue;
    const auto bytes = tensor.bytes;
    writer.add_tensor(
        gguf_name(name), QuantFormat::kBF16, tensor.shape,
        [bytes](std::span<std::byte> out) { std::copy(bytes.begin(), bytes.end(), out.begin()); });
  }
  writer.write(path);
}

TEST(Encoder, GgufGivesTheSameBits) {
  const testing::TempFolder temp;
  write_gguf(temp.path() / "m.gguf", 2);
  const auto gguf = load(temp.path() / "m.gguf");
  EXPECT_EQ(gguf->facts.pooling, Pooling::kCls);
  EXPECT_TRUE(gguf->facts.encoder);
  EXPECT_EQ(states(gguf, golden_ids()), states(load(kBert), golden_ids()));
}

TEST(Encoder, AnUnknownPoolingIsNamed) {
  const testing::TempFolder temp;
  write_gguf(temp.path() / "m.gguf", 9);
  try {
    load(temp.path() / "m.gguf");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("the type 9"), std::string::npos) << e.what();
  }
}

TEST(Encoder, IsNotConvertedToGguf) {
  const testing::TempFolder temp;
  EXPECT_THROW(convert_to_gguf(kBert, temp.path() / "m.gguf", QuantFormat::kF32), Error);
}

TEST(Encoder, AFolderStatesItsPooling) {
  const testing::TempFolder temp;
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::copy(kBert / name, temp.path() / name);
  }
  EXPECT_EQ(embedding_pooling(*load(temp.path())), Pooling::kMean);
  EXPECT_FALSE(load(temp.path())->facts.pooling.has_value());
  fs::create_directory(temp.path() / "1_Pooling");
  const fs::path config = temp.path() / "1_Pooling" / "config.json";
  write_file_atomic(config,
                    R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
  EXPECT_EQ(embedding_pooling(*load(temp.path())), Pooling::kCls);
  EXPECT_EQ(
      embedding_pooling(*load_model(
          temp.path(), {.repack = {}, .require_tokenizer = false, .pooling = Pooling::kLast})),
      Pooling::kLast);
  write_file_atomic(config, R"({"pooling_mode_max_tokens": true})");
  EXPECT_THROW(load(temp.path()), Error);
}

TEST(Classifier, IsDenseTanhOutput) {
  // dense = [[1, 2], [0, -1]] + [0.5, 0]; output = [[2, 3]] + [-1].
  const auto weight = [](std::vector<float> values, int64_t rows) {
    const auto owner = std::make_shared<std::vector<float>>(std::move(values));
    WeightView view;
    view.name = "w";
    view.format = QuantFormat::kF32;
    view.shape = {rows, 2};
    view.bytes = std::as_bytes(std::span(*owner));
    view.owner = owner;
    return wrap_weight(view);
  };
  const auto bias = [](std::vector<float> values) {
    return mlx::core::array(values.begin(), {static_cast<int>(values.size())}, mlx::core::float32);
  };
  const ClassifierHead head{.dense = LinearWeight{weight({1, 2, 0, -1}, 2), bias({0.5f, 0})},
                            .output = {weight({2, 3}, 1), bias({-1})}};
  const std::vector<float> state{0.25f, -0.5f};
  const double expected = 2 * std::tanh(0.25 - 1.0 + 0.5) + 3 * std::tanh(0.5) - 1;
  EXPECT_NEAR(classify(head, state).at(0), expected, 1e-6);
  const ClassifierHead bare{.dense = {}, .output = head.output};
  EXPECT_NEAR(classify(bare, state).at(0), 2 * 0.25 + 3 * -0.5 - 1, 1e-6);
}

}  // namespace
}  // namespace mlxr
