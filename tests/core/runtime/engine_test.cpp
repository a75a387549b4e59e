// The engine on the demo models: their float32 goldens, from every file format; and the promise
// that a sequence's logits do not depend on chunks, company or threads.
#include "core/runtime/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/runtime/convert.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Ids = std::vector<int32_t>;

const fs::path kModels = testing::source_dir() / "models";

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::span<const float> last_row(const StepLogits& logits) { return logits.row(logits.rows() - 1); }

StepLogits run(Engine& engine, KvSequence& kv, std::span<const int32_t> tokens) {
  const SequenceSlice slice{.kv = &kv, .tokens = tokens};
  return engine.step(std::span(&slice, 1));
}

struct Golden {
  Ids prompt, top_ids, greedy;
  std::vector<float> top_logits;
};

std::vector<Golden> goldens(const std::string& model) {
  const json parsed = json::parse(read_file(kModels / "golden" / (model + ".json")));
  std::vector<Golden> out;
  for (const json& item : parsed.is_array() ? parsed : parsed.at("prompts")) {
    out.push_back({item.at("prompt_ids").get<Ids>(), item.at("top_ids").get<Ids>(),
                   item.at("greedy_ids").get<Ids>(),
                   item.at("top_logits").get<std::vector<float>>()});
  }
  return out;
}

struct Deviation {
  double largest = 0;  // of the top 20 logits, over their spread
  int greedy_agreed = 0, greedy_wanted = 0;
};

Deviation compare(const std::shared_ptr<const Model>& model, const std::string& name) {
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  Deviation out;
  for (const Golden& golden : goldens(name)) {
    KvSequence kv = engine.new_sequence();
    StepLogits logits = run(engine, kv, golden.prompt);
    const double spread = golden.top_logits.front() - golden.top_logits.back();
    for (size_t i = 0; i < golden.top_ids.size(); ++i) {
      const double got = last_row(logits)[static_cast<size_t>(golden.top_ids[i])];
      out.largest = std::max(out.largest, std::abs(got - golden.top_logits[i]) / spread);
    }
    out.greedy_wanted += static_cast<int>(golden.greedy.size());
    for (int32_t expected : golden.greedy) {
      const int32_t token = argmax(last_row(logits));
      if (token != expected) break;
      ++out.greedy_agreed;
      logits = run(engine, kv, std::span(&token, 1));
    }
  }
  return out;
}

class DemoGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(DemoGolden, SafetensorsGiveTheReferenceLogits) {
  const Deviation d = compare(load_model(kModels / GetParam()), GetParam());
  EXPECT_LE(d.largest, 2e-3);
  EXPECT_EQ(d.greedy_agreed, d.greedy_wanted);
  EXPECT_GT(d.greedy_wanted, 100);
}

TEST_P(DemoGolden, HalfPrecisionGgufGivesTheReferenceLogits) {
  const testing::TempFolder folder;
  for (QuantFormat type : {QuantFormat::kF16, QuantFormat::kBF16, QuantFormat::kF32}) {
    const fs::path file = folder.path() / "model.gguf";
    convert_to_gguf(kModels / GetParam(), file, type);
    const Deviation d = compare(load_model(file), GetParam());
    EXPECT_LE(d.largest, 2e-3) << info(type).name;
    EXPECT_EQ(d.greedy_agreed, d.greedy_wanted) << info(type).name;
  }
}

TEST_P(DemoGolden, Q8DeviatesLittleAndSaysHowMuch) {
  const testing::TempFolder folder;
  const fs::path file = folder.path() / "model.gguf";
  convert_to_gguf(kModels / GetParam(), file, QuantFormat::kQ8_0);
  const Deviation d = compare(load_model(file), GetParam());
  const Deviation repacked =
      compare(load_model(file, {.repack = std::make_shared<ThreadPool>(3)}), GetParam());
  EXPECT_EQ(repacked.largest, d.largest);
  EXPECT_EQ(repacked.greedy_agreed, d.greedy_agreed);
  std::printf("%s Q8_0: top-20 logits within %.4f of their spread, %d of %d greedy tokens\n",
              GetParam(), d.largest, d.greedy_agreed, d.greedy_wanted);
  EXPECT_LE(d.largest, 0.15);
  EXPECT_GE(d.greedy_agreed, d.greedy_wanted / 2);
}

// Through the encoder, the file, and the path of formats without a kernel of their own.
TEST_P(DemoGolden, EncodedFormatsKeepMostGreedyTokens) {
  const testing::TempFolder folder;
  for (QuantFormat type :
       {QuantFormat::kQ4_1, QuantFormat::kQ4_K, QuantFormat::kQ6_K, QuantFormat::kIQ4_XS}) {
    const fs::path file = folder.path() / "model.gguf";
    convert_to_gguf(kModels / GetParam(), file, type);
    const Deviation d = compare(load_model(file), GetParam());
    std::printf("%s %s: top-20 logits within %.4f of their spread, %d of %d greedy tokens\n",
                GetParam(), std::string(info(type).name).c_str(), d.largest, d.greedy_agreed,
                d.greedy_wanted);
    EXPECT_GE(d.greedy_agreed, d.greedy_wanted / 2) << info(type).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DemoGolden, ::testing::Values("mlxr-demo", "mlxr-demo-draft"));

class EngineOnQ8 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<testing::TempFolder>();
    convert_to_gguf(kModels / "mlxr-demo-draft", folder_->path() / "m.gguf", QuantFormat::kQ8_0);
    model_ = load_model(folder_->path() / "m.gguf",
                        {.repack = std::make_shared<ThreadPool>(2), .require_tokenizer = true});
  }
  static void TearDownTestSuite() {
    model_.reset();
    folder_.reset();
  }
  static Engine engine(int threads, EngineOptions options = {}) {
    return Engine(model_, options, std::make_shared<ThreadPool>(threads));
  }
  static Ids prompt(size_t length, uint32_t seed) {
    Ids ids;
    for (size_t i = 0; i < length; ++i) {
      seed = seed * 1664525u + 1013904223u;
      ids.push_back(static_cast<int32_t>((seed >> 8) % 6000));
    }
    return ids;
  }
  static std::vector<float> alone(const Ids& ids) {
    Engine e = engine(1);
    KvSequence kv = e.new_sequence();
    const StepLogits logits = run(e, kv, ids);
    return {last_row(logits).begin(), last_row(logits).end()};
  }

  static std::unique_ptr<testing::TempFolder> folder_;
  static std::shared_ptr<const Model> model_;
};
std::unique_ptr<testing::TempFolder> EngineOnQ8::folder_;
std::shared_ptr<const Model> EngineOnQ8::model_;

TEST_F(EngineOnQ8, ChunksOfAPromptGiveTheSameBits) {
  const Ids ids = prompt(203, 1);
  const std::vector<float> expected = alone(ids);
  for (size_t chunk : {1, 3, 32, 50, 128}) {
    Engine e = engine(2);
    KvSequence kv = e.new_sequence();
    StepLogits logits;
    for (size_t at = 0; at < ids.size(); at += chunk) {
      logits = run(e, kv, std::span(ids).subspan(at, std::min(chunk, ids.size() - at)));
    }
    EXPECT_TRUE(std::ranges::equal(last_row(logits), expected)) << "chunks of " << chunk;
  }
}

TEST_F(EngineOnQ8, CompanyInAStepChangesNothing) {
  const std::vector<Ids> prompts = {prompt(5, 2), prompt(70, 3), prompt(1, 4), prompt(33, 5)};
  Engine e = engine(3);
  std::vector<KvSequence> kv;
  for (size_t i = 0; i < prompts.size(); ++i) kv.push_back(e.new_sequence());
  std::vector<SequenceSlice> slices;
  for (size_t i = 0; i < prompts.size(); ++i)
    slices.push_back({.kv = &kv[i], .tokens = prompts[i]});
  const StepLogits logits = e.step(slices);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(logits.row(static_cast<int32_t>(i)), alone(prompts[i]))) << i;
  }
}

TEST_F(EngineOnQ8, ProposedTokensGiveTheSameBitsAndLeaveNothingWhenRejected) {
  const Ids ids = prompt(90, 6), wrong = prompt(40, 7);
  Engine e = engine(2);
  KvSequence kv(e.pager(), "");
  run(e, kv, std::span(ids).first(20));
  const int32_t free = e.pager().free_blocks();
  for (size_t at = 20; at < 80;) {
    // A token, three right guesses and a block's worth of wrong ones, in two steps.
    Ids tokens(ids.begin() + static_cast<std::ptrdiff_t>(at),
               ids.begin() + static_cast<std::ptrdiff_t>(at) + 4);
    tokens.insert(tokens.end(), wrong.begin(), wrong.end());
    SequenceSlice slice{.kv = &kv,
                        .tokens = std::span(tokens).first(2),
                        .logits = SequenceSlice::Logits::kAll,
                        .proposed = 1};
    e.step(std::span(&slice, 1));
    slice.tokens = std::span(tokens).subspan(2);
    slice.proposed = static_cast<int32_t>(slice.tokens.size());
    const StepLogits logits = e.step(std::span(&slice, 1));
    at += 4;
    EXPECT_TRUE(std::ranges::equal(
        logits.row(1), alone({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(at)})));
    kv.settle(std::span(tokens).subspan(1, 3));
    EXPECT_EQ(kv.length(), static_cast<int64_t>(at));
    e.pager().check();
  }
  const SequenceSlice sure{.kv = &kv, .tokens = std::span(ids).subspan(80)};
  const StepLogits logits = e.step(std::span(&sure, 1));
  EXPECT_TRUE(std::ranges::equal(last_row(logits), alone(ids)));
  EXPECT_EQ(e.pager().free_blocks(), free - 2);  // 90 tokens in place of 20
}

TEST_F(EngineOnQ8, AFullArenaIsAnErrorThatChangesNothing) {
  EXPECT_THROW(engine(1, {.kv_bytes = 1}), Error);  // not even one block
  Engine e = engine(1, {.context_length = 64});
  std::vector<KvSequence> kv;
  const int32_t blocks = e.pager().total_blocks();
  for (int32_t i = 0; i + 2 <= blocks; i += 2) {
    kv.push_back(e.new_sequence());
    run(e, kv.back(), prompt(64, 9));
  }
  ASSERT_EQ(e.pager().free_blocks(), 0);
  KvSequence one_more = e.new_sequence();
  EXPECT_THROW(run(e, one_more, prompt(3, 9)), Error);
  EXPECT_EQ(one_more.length(), 0);
  EXPECT_TRUE(one_more.blocks().empty());
}

TEST_F(EngineOnQ8, ReleasesItsBlocks) {
  Engine e = engine(1, {.context_length = 256});
  const int32_t free = e.pager().free_blocks();
  {
    KvSequence a = e.new_sequence(), b = e.new_sequence();
    run(e, a, prompt(100, 6));
    run(e, b, prompt(40, 7));
    EXPECT_EQ(e.pager().free_blocks(), free - 4 - 2);
    KvSequence c = std::move(a);
    EXPECT_EQ(c.length(), 100);
  }
  EXPECT_EQ(e.pager().free_blocks(), free);
}

TEST_F(EngineOnQ8, CachedPrefixesAndForksGiveTheSameBits) {
  const Ids ids = prompt(203, 10);
  const std::vector<float> expected = alone(ids);
  Engine e = engine(2);
  KvSequence first(e.pager(), ""), second(e.pager(), "");
  run(e, first, std::span(ids).first(170));
  ASSERT_EQ(second.adopt(ids), 160);
  const StepLogits whole = run(e, second, std::span(ids).subspan(160));
  EXPECT_TRUE(std::ranges::equal(last_row(whole), expected));

  // Three answers go on inside the block that the prompt has begun: each writes its own copy.
  Ids other = ids;
  other[170] = (other[170] + 1) % 6000;
  KvSequence fork = first.fork(), changed = first.fork();
  const std::vector<SequenceSlice> slices = {
      {.kv = &changed, .tokens = std::span(other).subspan(170)},
      {.kv = &fork, .tokens = std::span(ids).subspan(170)},
      {.kv = &first, .tokens = std::span(ids).subspan(170)}};
  const StepLogits logits = e.step(slices);
  EXPECT_TRUE(std::ranges::equal(logits.row(0), alone(other)));
  EXPECT_TRUE(std::ranges::equal(logits.row(1), expected));
  EXPECT_TRUE(std::ranges::equal(logits.row(2), expected));
  EXPECT_EQ(fork.blocks()[5], second.blocks()[5]);  // full again, and the same
  EXPECT_NE(fork.blocks()[5], changed.blocks()[5]);
  e.pager().check();
}

TEST_F(EngineOnQ8, RefusesWhatItCannotCompute) {
  Engine e = engine(1, {.context_length = 64});
  KvSequence kv = e.new_sequence();
  EXPECT_THROW(run(e, kv, Ids{-1}), Error);
  EXPECT_THROW(run(e, kv, Ids{6144}), Error);
  EXPECT_THROW(run(e, kv, prompt(65, 8)), Error);
  EXPECT_EQ(kv.length(), 0);
  EXPECT_NO_THROW(run(e, kv, prompt(64, 8)));
}

}  // namespace
}  // namespace mlxr
