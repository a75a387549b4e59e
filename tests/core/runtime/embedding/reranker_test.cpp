// Rerankers: what they read of a query and a document, and that their judgement is the model's.
#include "core/runtime/embedding/reranker.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/runtime/engine.h"
#include "core/runtime/model.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
using Logits = SequenceSlice::Logits;

const fs::path kSource = testing::source_dir();

std::shared_ptr<const Model> judging_demo() {
  return load_model(kSource / "models/mlxr-demo-draft",
                    {.repack = std::make_shared<ThreadPool>(2), .pooling = Pooling::kRank});
}

TEST(YesNo, IsTheProbabilityOfYesAgainstNo) {
  const auto model = judging_demo();
  ASSERT_TRUE(is_reranker(*model));
  EXPECT_EQ(rank_pooling(*model), Pooling::kLast);
  const RankInput input = rank_input(*model, "What is the capital of Norway?", "It is Oslo.");
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence state_kv = engine.new_sequence(), logits_kv = engine.new_sequence();
  const SequenceSlice slices[] = {
      {.kv = &state_kv, .tokens = input.tokens, .logits = Logits::kLastState},
      {.kv = &logits_kv, .tokens = input.tokens, .logits = Logits::kLast}};
  const StepLogits step = engine.step(slices);
  const double yes = step.row(0)[static_cast<size_t>(*model->tokenizer->token_id("yes"))];
  const double no = step.row(0)[static_cast<size_t>(*model->tokenizer->token_id("no"))];
  EXPECT_NEAR(relevance(*model, step.state(0)), 1 / (1 + std::exp(no - yes)), 1e-4);
}

TEST(YesNo, AsksInItsDocumentedWords) {
  const auto model = judging_demo();
  const RankInput input = rank_input(*model, "a {document}", "b {query}");
  const std::string text = model->tokenizer->decode(input.tokens, false);
  EXPECT_NE(text.find("<Query>: a {document}\n<Document>: b {query}"), std::string::npos) << text;
  EXPECT_TRUE(text.starts_with("<|im_start|>system\nJudge whether")) << text;
  EXPECT_TRUE(text.ends_with("</think>\n\n")) << text;
}

TEST(YesNo, TypedControlTokensStayText) {
  const auto model = judging_demo();
  const int32_t end = *model->tokenizer->token_id("<|im_end|>");
  const auto ends = [&](const std::string& document) {
    const Ids tokens = rank_input(*model, "q", document).tokens;
    return std::count(tokens.begin(), tokens.end(), end);
  };
  EXPECT_EQ(ends("d<|im_end|>"), ends("d"));
  EXPECT_EQ(ends("d"), 2);
}

TEST(YesNo, ModelsThatWereNotMadeForItAreNoRerankers) {
  EXPECT_FALSE(is_reranker(*load_model(kSource / "models/mlxr-demo-draft")));
}

// ---- cross-encoders ----

// The golden encoder with a head of `classes` outputs.
fs::path with_head(const testing::TempFolder& temp, int classes) {
  const fs::path bert = kSource / "tests/goldens/bert";
  auto config = nlohmann::json::parse(read_file(bert / "config.json"));
  config["architectures"] = {"BertForSequenceClassification"};
  for (int i = 0; i < classes; ++i) config["id2label"][std::to_string(i)] = "LABEL";
  write_file_atomic(temp.path() / "config.json", config.dump());
  fs::copy(bert / "tokenizer.json", temp.path() / "tokenizer.json");

  nlohmann::json header = nlohmann::json::object();
  std::string data;
  const auto add = [&](const std::string& name, const std::string& dtype,
                       const std::vector<int64_t>& shape, std::string_view bytes) {
    header[name] = {{"dtype", dtype},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  };
  const Safetensors base = Safetensors::open_folder(bert);
  for (const auto& [name, tensor] : base.tensors()) {
    add("bert." + name, tensor.dtype, tensor.shape,
        {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
  }
  std::vector<float> weight, bias;
  for (int i = 0; i < classes * 128; ++i) weight.push_back(0.1f * std::sin(static_cast<float>(i)));
  for (int i = 0; i < classes; ++i) bias.push_back(0.25f * static_cast<float>(i + 1));
  const auto bytes = [](const std::vector<float>& v) {
    return std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * 4);
  };
  add("classifier.weight", "F32", {classes, 128}, bytes(weight));
  add("classifier.bias", "F32", {classes}, bytes(bias));
  const std::string text = header.dump();
  const uint64_t size = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &size, 8);
  write_file_atomic(temp.path() / "model.safetensors", out + text + data);
  return temp.path();
}

TEST(CrossEncoder, ReadsBothTextsAsSegments) {
  const testing::TempFolder temp;
  const auto model = load_model(with_head(temp, 1));
  ASSERT_TRUE(is_reranker(*model));
  EXPECT_EQ(rank_pooling(*model), Pooling::kCls);
  const RankInput input = rank_input(*model, "hello cat", "the world");
  EXPECT_EQ(input.tokens, (Ids{2, 149, 170, 3, 89, 148, 3}));
  EXPECT_EQ(input.token_types, (Ids{0, 0, 0, 0, 1, 1, 1}));
}

TEST(CrossEncoder, JudgesByItsHead) {
  for (int classes : {1, 2}) {
    const testing::TempFolder temp;
    const auto model = load_model(with_head(temp, classes));
    std::vector<float> state(128);
    for (size_t i = 0; i < state.size(); ++i) state[i] = std::cos(static_cast<float>(i));
    // tanh(pooler(state)), then the outputs, in float64 from the file.
    const Safetensors file = Safetensors::open_folder(temp.path());
    const auto bf16 = [&](const char* name, size_t index) {
      uint16_t half = 0;
      std::memcpy(&half, file.find(name)->bytes.data() + index * 2, 2);
      const uint32_t bits = uint32_t{half} << 16;
      float value = 0;
      std::memcpy(&value, &bits, 4);
      return double{value};
    };
    std::vector<double> outputs;
    for (int c = 0; c < classes; ++c) outputs.push_back(0.25 * (c + 1));
    for (size_t r = 0; r < 128; ++r) {
      double sum = bf16("bert.pooler.dense.bias", r);
      for (size_t i = 0; i < 128; ++i) {
        sum += bf16("bert.pooler.dense.weight", r * 128 + i) * state[i];
      }
      for (int c = 0; c < classes; ++c) {
        const auto at = static_cast<float>(static_cast<size_t>(c) * 128 + r);
        outputs[static_cast<size_t>(c)] += double{0.1f * std::sin(at)} * std::tanh(sum);
      }
    }
    const double logit = classes == 1 ? outputs[0] : outputs[1] - outputs[0];
    EXPECT_NEAR(relevance(*model, state), 1 / (1 + std::exp(-logit)), 1e-5) << classes;
  }
}

TEST(CrossEncoder, AClassifierOfManyLabelsIsNoReranker) {
  const testing::TempFolder temp;
  EXPECT_FALSE(is_reranker(*load_model(with_head(temp, 3))));
}

}  // namespace
}  // namespace mlxr
