// mlxr-parity DIR...: runs golden folders (config.json, model.safetensors, golden.safetensors)
// through the product's loader, graph and engine, and compares logits and greedy tokens (an
// encoder's states) with the reference. A DIR without golden.safetensors is searched one level
// down. Architectures that this build does not run are skipped; exit status 1 when a case fails or
// nothing was run.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "core/base/error.h"
#include "core/formats/safetensors.h"
#include "core/runtime/engine.h"

namespace {

namespace fs = std::filesystem;
using namespace mlxr;

constexpr double kTolerance = 2e-3;  // of the reference logits' standard deviation

template <class T>
std::vector<T> read(const Safetensors& file, const char* name, const char* dtype) {
  const RawTensor* tensor = file.find(name);
  if (tensor == nullptr) throw Error(ErrorCode::kUnsupported, std::string("golden has no ") + name);
  if (tensor->dtype != dtype) {
    throw Error(ErrorCode::kCorruptFile, std::string(name) + " is not " + dtype);
  }
  std::vector<T> values(tensor->bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor->bytes.data(), values.size() * sizeof(T));
  return values;
}

double standard_deviation(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (float v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  for (float v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct Result {
  double error = 0;  // largest error over the standard deviation of what is compared
  int agreed = 0, wanted = 0;
  bool passed() const { return error <= kTolerance && agreed == wanted; }
};

// `row(i)` against row i of the reference.
template <class Row>
double largest_error(const std::vector<float>& reference, int32_t rows, const Row& row) {
  double largest = 0;
  const double spread = standard_deviation(reference);
  const size_t width = reference.size() / static_cast<size_t>(rows);
  for (int32_t r = 0; r < rows; ++r) {
    const std::span<const float> got = row(r);
    for (size_t i = 0; i < width; ++i) {
      const double error =
          std::abs(got[i] - reference[static_cast<size_t>(r) * width + i]) / spread;
      // A NaN must not slip through a comparison.
      if (!(error <= largest)) largest = error;
    }
  }
  return largest;
}

Result run_encoder(const Safetensors& golden, const std::shared_ptr<const Model>& model,
                   const std::shared_ptr<ThreadPool>& threads) {
  const auto ids = read<int32_t>(golden, "input_ids", "I32");
  Engine engine(model, {.kv_type = KvType::kF32}, threads);
  KvSequence sequence = engine.new_sequence();
  const SequenceSlice text{
      .kv = &sequence, .tokens = ids, .logits = SequenceSlice::Logits::kAllStates};
  const StepLogits out = engine.step(std::span(&text, 1));
  const auto states = read<float>(golden, "hidden", "F32");
  Result result;
  result.error =
      largest_error(states, out.state_rows(), [&](int32_t row) { return out.state(row); });
  return result;
}

Result run_case(const fs::path& folder, const std::shared_ptr<ThreadPool>& threads) {
  const Safetensors golden = Safetensors::open_file(folder / "golden.safetensors");
  const auto model = load_model(folder, {.repack = threads, .require_tokenizer = false});
  if (model->encoder) return run_encoder(golden, model, threads);
  const auto ids = read<int32_t>(golden, "input_ids", "I32");
  const auto logits = read<float>(golden, "logits", "F32");
  const auto greedy = read<int32_t>(golden, "greedy", "I32");

  Engine engine(model, {.kv_type = KvType::kF32}, threads);
  KvSequence sequence = engine.new_sequence();
  const SequenceSlice prompt{.kv = &sequence, .tokens = ids, .logits = SequenceSlice::Logits::kAll};
  StepLogits out = engine.step(std::span(&prompt, 1));

  Result result;
  result.error = largest_error(logits, out.rows(), [&](int32_t row) { return out.row(row); });
  int32_t token = argmax(out.row(out.rows() - 1));
  result.wanted = static_cast<int>(greedy.size());
  for (int32_t expected : greedy) {
    if (token != expected) break;
    ++result.agreed;
    const SequenceSlice next{.kv = &sequence, .tokens = std::span(&token, 1)};
    out = engine.step(std::span(&next, 1));
    token = argmax(out.row(0));
  }
  return result;
}

std::vector<fs::path> find_cases(int argc, char** argv) {
  std::vector<fs::path> cases;
  for (int i = 1; i < argc; ++i) {
    const fs::path folder = argv[i];
    if (fs::exists(folder / "golden.safetensors")) {
      cases.push_back(folder);
      continue;
    }
    std::vector<fs::path> below;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (fs::exists(entry.path() / "golden.safetensors")) below.push_back(entry.path());
    }
    std::sort(below.begin(), below.end());
    cases.insert(cases.end(), below.begin(), below.end());
  }
  return cases;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: mlxr-parity DIR...\n");
    return 2;
  }
  int passed = 0, failed = 0, skipped = 0;
  try {
    const auto threads = std::make_shared<ThreadPool>(0);
    for (const fs::path& folder : find_cases(argc, argv)) {
      const std::string name = folder.lexically_normal().filename().string();
      try {
        const Result r = run_case(folder, threads);
        std::printf("%-22s error %.2e of std  greedy %d/%d  %s\n", name.c_str(), r.error, r.agreed,
                    r.wanted, r.passed() ? "passed" : "FAILED");
        ++(r.passed() ? passed : failed);
      } catch (const Error& e) {
        const bool skip = e.code() == ErrorCode::kUnsupported;
        std::printf("%-22s %s: %s\n", name.c_str(), skip ? "skipped" : "FAILED", e.what());
        ++(skip ? skipped : failed);
      }
      std::fflush(stdout);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mlxr-parity: %s\n", e.what());
    ++failed;
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed == 0 && passed > 0 ? 0 : 1;
}
