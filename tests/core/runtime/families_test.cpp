// Every decoder of tests/goldens (mlxr-parity compares it with its reference): its GGUF form
// gives the same logits as its folder, a row does not depend on who shares its step, and final
// states times the vocabulary are the reference's logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/base/error.h"
#include "core/formats/safetensors.h"
#include "core/kernels/cpu/matmul.h"
#include "core/runtime/convert.h"
#include "core/runtime/engine.h"
#include "tests/core/temp_folder.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const fs::path kGoldens = testing::source_dir() / "tests/goldens";

// What GGUF has no keys for.
const std::set<std::string> kNotInGguf = {"llama-rope-dynamic", "mistral"};

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens)) {
    const bool decoder = entry.path().filename() != "bert";  // encoder_test.cpp has it
    if (entry.is_directory() && decoder) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::shared_ptr<const Model> load(const fs::path& path) {
  return load_model(path, {.repack = std::make_shared<ThreadPool>(2), .require_tokenizer = false});
}

Ids prompt_of(const fs::path& folder) {
  const Safetensors golden = Safetensors::open_file(folder / "golden.safetensors");
  const RawTensor& ids = *golden.find("input_ids");
  Ids out(ids.bytes.size() / sizeof(int32_t));
  std::memcpy(out.data(), ids.bytes.data(), ids.bytes.size());
  return out;
}

std::vector<float> all_logits(const std::shared_ptr<const Model>& model, const Ids& prompt) {
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence();
  const SequenceSlice slice{.kv = &kv, .tokens = prompt, .logits = SequenceSlice::Logits::kAll};
  const StepLogits logits = engine.step(std::span(&slice, 1));
  std::vector<float> out;
  for (int32_t r = 0; r < logits.rows(); ++r) {
    out.insert(out.end(), logits.row(r).begin(), logits.row(r).end());
  }
  return out;
}

class FamilyGolden : public ::testing::TestWithParam<std::string> {
 protected:
  const fs::path folder_ = kGoldens / GetParam();
};

TEST_P(FamilyGolden, GgufGivesTheSameLogits) {
  const testing::TempFolder temp;
  const fs::path file = temp.path() / "model.gguf";
  if (kNotInGguf.contains(GetParam())) {
    EXPECT_THROW(convert_to_gguf(folder_, file, QuantFormat::kF32), Error);
    return;
  }
  convert_to_gguf(folder_, file, QuantFormat::kF32);
  const Ids prompt = prompt_of(folder_);
  const auto expected = all_logits(load(folder_), prompt), got = all_logits(load(file), prompt);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    // GGUF pairs the rotated dimensions otherwise, so that scores are summed in another order.
    ASSERT_NEAR(got[i], expected[i], 1e-4f * (1 + std::abs(expected[i]))) << i;
  }
}

// One sequence token by token while another one's prompt joins it in chunks, on two threads,
// against the whole prompt in one step.
TEST_P(FamilyGolden, ChunksAndCompanyChangeNoBit) {
  const auto model = load(folder_);
  const Ids prompt = prompt_of(folder_);
  const auto expected = all_logits(model, prompt);
  const auto vocab = static_cast<size_t>(model->spec.vocab);
  Ids other(prompt.rbegin(), prompt.rend());
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence(), company = engine.new_sequence();
  for (size_t i = 0; i < prompt.size(); ++i) {
    std::vector<SequenceSlice> slices;
    if (i % 3 == 0) {
      const size_t count = std::min<size_t>(3, other.size() - i);
      slices.push_back({.kv = &company, .tokens = std::span(other).subspan(i, count)});
    }
    slices.push_back({.kv = &kv, .tokens = std::span(prompt).subspan(i, 1)});
    const StepLogits logits = engine.step(slices);
    const auto row = logits.row(logits.rows() - 1);
    const auto first = expected.begin() + static_cast<std::ptrdiff_t>(i * vocab);
    ASSERT_TRUE(std::equal(row.begin(), row.end(), first)) << "token " << i;
  }
}

// The rows of the reference's logits, in float64, by states that another step gave in chunks beside
// somebody else's logits.
TEST_P(FamilyGolden, StatesGiveTheReferenceLogits) {
  using Logits = SequenceSlice::Logits;
  const auto model = load_model(folder_, {.repack = nullptr, .require_tokenizer = false});
  const Ids prompt = prompt_of(folder_);
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence kv = engine.new_sequence(), company = engine.new_sequence(),
             at_once = engine.new_sequence();
  const SequenceSlice whole{.kv = &at_once, .tokens = prompt, .logits = Logits::kAllStates};
  const StepLogits expected = engine.step(std::span(&whole, 1));
  ASSERT_EQ(expected.rows(), 0);
  ASSERT_EQ(expected.state_rows(), static_cast<int32_t>(prompt.size()));

  const Safetensors golden = Safetensors::open_file(folder_ / "golden.safetensors");
  std::vector<float> logits(golden.find("logits")->bytes.size() / sizeof(float));
  std::memcpy(logits.data(), golden.find("logits")->bytes.data(), logits.size() * sizeof(float));
  double squares = 0;
  for (float v : logits) squares += double{v} * v;
  const double tolerance = 2e-3 * std::sqrt(squares / static_cast<double>(logits.size()));

  const auto hidden = static_cast<size_t>(model->spec.hidden);
  const auto vocab = static_cast<size_t>(model->spec.vocab);
  std::vector<float> row(hidden);
  for (size_t i = 0; i < prompt.size();) {
    const size_t count = std::min<size_t>(7, prompt.size() - i);
    const SequenceSlice slices[] = {
        {.kv = &company, .tokens = std::span(prompt).subspan(i, 1), .logits = Logits::kLast},
        {.kv = &kv, .tokens = std::span(prompt).subspan(i, count), .logits = Logits::kAllStates}};
    const StepLogits got = engine.step(slices);
    ASSERT_EQ(got.rows(), 1);
    ASSERT_EQ(got.state_rows(), static_cast<int32_t>(count));
    for (size_t t = 0; t < count; ++t) {
      const auto state = got.state(static_cast<int32_t>(t));
      ASSERT_TRUE(std::ranges::equal(state, expected.state(static_cast<int32_t>(i + t))));
      for (size_t v = 0; v < vocab; ++v) {
        cpu::decode_row(model->weights->output.weight.ref, static_cast<int64_t>(v), row.data());
        double sum = 0;
        for (size_t k = 0; k < hidden; ++k) sum += double{row[k]} * state[k];
        const double cap = model->spec.logit_soft_cap;
        if (cap > 0) sum = cap * std::tanh(sum / cap);
        ASSERT_NEAR(sum, logits[(i + t) * vocab + v], tolerance) << i + t << " " << v;
      }
    }
    i += count;
  }
}

TEST_P(FamilyGolden, TheLastStateIsThatOfAllStates) {
  using Logits = SequenceSlice::Logits;
  const auto model = load(folder_);
  const Ids prompt = prompt_of(folder_);
  Engine engine(model, {.kv_type = KvType::kF32}, std::make_shared<ThreadPool>(2));
  KvSequence one = engine.new_sequence(), other = engine.new_sequence();
  const SequenceSlice slices[] = {{.kv = &one, .tokens = prompt, .logits = Logits::kAllStates},
                                  {.kv = &other, .tokens = prompt, .logits = Logits::kLastState}};
  const StepLogits got = engine.step(slices);
  const auto count = static_cast<int32_t>(prompt.size());
  ASSERT_EQ(got.state_rows(), count + 1);
  EXPECT_TRUE(std::ranges::equal(got.state(count), got.state(count - 1)));
}

INSTANTIATE_TEST_SUITE_P(Goldens, FamilyGolden, ::testing::ValuesIn(golden_names()),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mlxr
