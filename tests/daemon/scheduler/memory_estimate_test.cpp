// What is estimated before a model is loaded, against what this process then really takes.
#include "daemon/scheduler/memory_estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "core/base/float16.h"
#include "core/base/system_memory.h"
#include "core/runtime/model_files.h"
#include "daemon/scheduler/model_manager.h"
#include "tests/core/random_adapter.h"
#include "tests/core/temp_folder.h"
#include "tests/core/write_safetensors.h"
#include "tests/own_memory.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

using testing::own_memory;

struct Measured {
  ModelMemory model;
  MemoryEstimate estimate;
  int64_t grown = 0;
};

// A model in use: its arena is full, and steps are as large as the scheduler's may be.
class UsedModel {
 public:
  UsedModel(const fs::path& path, const ModelLoadOptions& load, const EngineOptions& options,
            SchedulerOptions scheduler, const std::vector<fs::path>& adapters = {})
      : scheduler_(std::move(scheduler)), threads_(std::make_shared<ThreadPool>(2)) {
    model_ = load_model(path, load);
    for (const fs::path& adapter : adapters) {
      adapters_.push_back({load_adapter(adapter, *model_, *threads_), 1});
    }
    engine_ = std::make_unique<Engine>(model_, options, threads_);
    const std::vector<std::byte> block(static_cast<size_t>(engine_->block_bytes()));
    for (int64_t i = 0; i < engine_->kv_bytes() / engine_->block_bytes(); ++i) {
      engine_->load_block(static_cast<BlockId>(i), block);
    }
    for (int32_t i = 0; i < scheduler_.max_sequences; ++i) {
      sequences_.push_back(engine_->new_sequence());
    }
  }

  // Prompts whose last tokens want logits, as many as run together.
  void read_prompts() {
    const int32_t each = scheduler_.max_batch_tokens / scheduler_.max_sequences;
    const std::vector<int32_t> tokens(static_cast<size_t>(each), 300);
    std::vector<SequenceSlice> slices;
    for (KvSequence& kv : sequences_) {
      slices.push_back({.kv = &kv, .tokens = tokens, .adapters = adapters_});
    }
    logits_ = engine_->step(slices);
    EXPECT_EQ(logits_.rows(), scheduler_.max_sequences);
  }

  // The next token of each, and as many as may be proposed behind them, as few for each as can be.
  void answer() {
    const int64_t proposed = most_logit_rows(scheduler_) - scheduler_.max_sequences;
    const std::vector<int32_t> tokens(100, 301);
    std::vector<SequenceSlice> slices;
    int64_t left = proposed;
    for (KvSequence& kv : sequences_) {
      const int64_t more = std::min<int64_t>(left, scheduler_.speculation.depth.deepest);
      left -= more;
      slices.push_back({.kv = &kv,
                        .tokens = std::span(tokens).first(static_cast<size_t>(1 + more)),
                        .logits = SequenceSlice::Logits::kAll,
                        .proposed = static_cast<int32_t>(more)});
    }
    logits_ = engine_->step(slices);
    EXPECT_EQ(logits_.rows(), most_logit_rows(scheduler_));
  }

  const Model& model() const { return *model_; }
  const Engine& engine() const { return *engine_; }
  int64_t adapter_bytes() const {
    int64_t sum = 0;
    for (const ScaledAdapter& scaled : adapters_) sum += scaled.adapter->bytes;
    return sum;
  }

 private:
  SchedulerOptions scheduler_;
  std::shared_ptr<ThreadPool> threads_;
  std::shared_ptr<const Model> model_;
  std::vector<ScaledAdapter> adapters_;
  std::unique_ptr<Engine> engine_;
  std::vector<KvSequence> sequences_;
  StepLogits logits_;
};

// Loads the model, fills its arena and computes a full step.
Measured load_and_use(const fs::path& path, bool interleave, const EngineOptions& options,
                      const std::vector<fs::path>& adapters = {}) {
  const auto threads = std::make_shared<ThreadPool>(2);
  const SchedulerOptions scheduler;
  const int64_t before = own_memory();
  Measured measured;
  measured.model = model_memory(open_model(path), interleave);
  std::vector<AdapterMemory> known;
  for (const fs::path& adapter : adapters) {
    known.push_back(read_adapter_memory(adapter, measured.model.facts, measured.model.spec));
  }
  measured.estimate = estimate_memory(measured.model, plan_kv(measured.model.spec, options),
                                      scheduler, false, known);
  UsedModel used(path, {.repack = interleave ? threads : nullptr}, options, scheduler, adapters);
  EXPECT_EQ(used.model().repacked_bytes, measured.model.weights.interleaved);
  EXPECT_EQ(used.engine().kv_bytes(), measured.estimate.kv);
  EXPECT_EQ(used.adapter_bytes(), measured.estimate.adapters);
  used.read_prompts();
  measured.grown = own_memory() - before;
  return measured;
}

// Never more than a tenth and 8 MiB (what malloc keeps, thread stacks, the code's own pages) over
// what was said; and what was said is at most a third and 8 MiB too much.
void expect_close(int64_t grown, int64_t estimate) {
  const int64_t slack = int64_t{8} << 20;
  EXPECT_LE(grown, estimate + estimate / 10 + slack);
  EXPECT_GE(grown, estimate - estimate / 3 - slack);
}

void expect_close(const Measured& measured) {
  const MemoryEstimate& e = measured.estimate;
  expect_close(measured.grown, e.total());
  std::printf(
      "estimate %s (weights %s, KV %s, activations %s, other %s, adapters %s; mapped %s), "
      "grown %s\n",
      size_text(e.total()).c_str(), size_text(e.weights).c_str(), size_text(e.kv).c_str(),
      size_text(e.activations).c_str(), size_text(e.other).c_str(), size_text(e.adapters).c_str(),
      size_text(e.mapped).c_str(), size_text(measured.grown).c_str());
}

const fs::path kDemo = testing::source_dir() / "models" / "mlxr-demo";

TEST(MemoryEstimate, IsWhatLoadingAndUsingAModelTakes) {
  if (own_memory() == 0) GTEST_SKIP() << "this system does not say what a process takes";
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    SCOPED_TRACE(kv_type_name(type));
    // Large enough that neither weights nor KV are lost in what malloc keeps.
    expect_close(load_and_use(kDemo, true, {.kv_bytes = int64_t{64} << 20, .kv_type = type}));
  }
}

TEST(MemoryEstimate, MappedWeightsAreNoMemoryOfOurs) {
  if (own_memory() == 0) GTEST_SKIP() << "this system does not say what a process takes";
  const Measured measured = load_and_use(kDemo, false, {.kv_bytes = int64_t{32} << 20});
  EXPECT_EQ(measured.estimate.weights, 0);
  EXPECT_GE(measured.estimate.mapped, read_model_facts(kDemo).weight_bytes * 9 / 10);
  EXPECT_LE(measured.estimate.mapped, read_model_facts(kDemo).weight_bytes);
  expect_close(measured);
}

TEST(MemoryEstimate, AdaptersCount) {
  if (own_memory() == 0) GTEST_SKIP() << "this system does not say what a process takes";
  const testing::TempFolder folder;
  std::vector<fs::path> adapters;
  {
    const auto model = load_model(kDemo);
    for (const int64_t rank : {64, 160}) {
      adapters.push_back(folder.path() / std::to_string(rank));
      testing::write_peft(adapters.back(), testing::random_adapter(*model, rank, 8, 1), "F32");
    }
  }
  const Measured measured = load_and_use(kDemo, true, {.kv_bytes = int64_t{16} << 20}, adapters);
  EXPECT_GT(measured.estimate.adapters, int64_t{24} << 20) << "more than the slack";
  expect_close(measured);
}

// A model whose vocabulary is most of it, so that logits are: the golden one with another.
fs::path wide_model(const fs::path& folder, int64_t vocab) {
  nlohmann::json config =
      nlohmann::json::parse(read_file(testing::source_dir() / "tests/goldens/llama/config.json"));
  config.update({{"vocab_size", vocab}, {"num_hidden_layers", 1}, {"tie_word_embeddings", true}});
  const auto hidden = config["hidden_size"].get<int64_t>(),
             ffn = config["intermediate_size"].get<int64_t>(),
             head = config["head_dim"].get<int64_t>(), q = 2 * head, kv = head;
  std::map<std::string, testing::SafetensorsEntry> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    const std::vector<uint16_t> values(static_cast<size_t>(count), f32_to_bf16(0.01f));
    tensors["model." + name + ".weight"] = {"BF16", std::move(shape), testing::bytes_of(values)};
  };
  add("embed_tokens", {vocab, hidden});
  add("norm", {hidden});
  add("layers.0.input_layernorm", {hidden});
  add("layers.0.post_attention_layernorm", {hidden});
  add("layers.0.self_attn.q_proj", {q, hidden});
  add("layers.0.self_attn.k_proj", {kv, hidden});
  add("layers.0.self_attn.v_proj", {kv, hidden});
  add("layers.0.self_attn.o_proj", {hidden, q});
  add("layers.0.mlp.gate_proj", {ffn, hidden});
  add("layers.0.mlp.up_proj", {ffn, hidden});
  add("layers.0.mlp.down_proj", {hidden, ffn});
  fs::create_directories(folder);
  write_file_atomic(folder / "config.json", config.dump());
  testing::write_safetensors(folder / "model.safetensors", tensors);
  return folder;
}

TEST(MemoryEstimate, LogitsOfProposedTokensCount) {
  if (own_memory() == 0) GTEST_SKIP() << "this system does not say what a process takes";
  const testing::TempFolder folder;
  const fs::path path = wide_model(folder.path() / "wide", 100000);
  const EngineOptions engine{.kv_bytes = int64_t{4} << 20, .kv_block_tokens = 16};
  SchedulerOptions options{.max_batch_tokens = 128, .max_sequences = 16};
  for (const SpeculationMode mode : {SpeculationMode::kOff, SpeculationMode::kNgram}) {
    options.speculation.mode = mode;
    const int64_t rows = mode == SpeculationMode::kOff ? 16 : 16 + 64;
    EXPECT_EQ(most_logit_rows(options), rows);
    const int64_t before = own_memory();
    const ModelMemory memory = model_memory(open_model(path), false);
    MemoryEstimate estimate = estimate_memory(memory, plan_kv(memory.spec, engine), options, false);
    EXPECT_GE(estimate.activations, rows * 100000 * 4);
    estimate.other = 0;  // it has no tokenizer
    UsedModel used(path, {.repack = nullptr, .require_tokenizer = false}, engine, options);
    used.read_prompts();
    used.answer();
    expect_close(own_memory() - before, estimate.total());
  }
}

TEST(MemoryEstimate, RowsOfLogitsAreThoseThatAStepMayAskFor) {
  SchedulerOptions options;
  options.speculation.mode = SpeculationMode::kNgram;
  const auto rows = [&](int32_t sequences, int32_t deepest, int32_t tokens) {
    options.max_sequences = sequences;
    options.speculation.depth.deepest = deepest;
    options.max_batch_tokens = tokens;
    return most_logit_rows(options);
  };
  EXPECT_EQ(rows(1, 8, 512), 9);
  EXPECT_EQ(rows(8, 8, 512), 72);
  EXPECT_EQ(rows(64, 8, 512), 128);
  EXPECT_EQ(rows(64, 64, 100), 100);
  options.speculation.mode = SpeculationMode::kOff;
  EXPECT_EQ(rows(64, 8, 512), 64);
}

TEST(MemoryEstimate, ADraftModelAndItsArenaCount) {
  ModelManagerOptions options;
  options.threads = 1;
  options.engine.context_length = 256;
  options.model_folders = {testing::source_dir() / "models"};
  const auto estimate = [&](std::optional<SpeculationMode> mode) {
    ModelManager manager(options, [&](const std::string&) {
      ModelSettings settings;
      settings.speculation = mode;
      settings.draft_model = "mlxr-demo-draft";
      return settings;
    });
    const auto model = manager.acquire("mlxr-demo");
    EXPECT_EQ(manager.memory().reserved, model->info().memory.total());
    return model->info().memory;
  };
  const MemoryEstimate alone = estimate(SpeculationMode::kOff),
                       both = estimate(SpeculationMode::kDraft);
  EXPECT_GT(both.weights + both.mapped, alone.weights + alone.mapped);
  EXPECT_GT(both.kv, alone.kv);
  EXPECT_GT(both.total(), alone.total());
}

TEST(MemoryEstimate, AdaptersOfTheSettingsCountWhetherTheyAreLoadedOrNot) {
  const testing::TempFolder folder;
  const fs::path path = folder.path() / "tone";
  testing::write_peft(path, testing::random_adapter(*load_model(kDemo), 8, 8, 1));
  ModelManagerOptions options;
  options.threads = 1;
  options.engine.context_length = 256;
  options.model_folders = {testing::source_dir() / "models"};
  ModelManager manager(options, [&](const std::string&) {
    ModelSettings settings;
    settings.adapters = {{"tone", path, 0}, {"gone", folder.path() / "gone", 0}};
    return settings;
  });
  const auto model = manager.acquire("mlxr-demo");
  const LoadedModelInfo info = model->info();
  EXPECT_EQ(info.adapter_bytes, 0) << "nobody has asked for it";
  EXPECT_GT(info.memory.adapters, 0);
  EXPECT_EQ(manager.memory().reserved, info.memory.total());
  model->adapters().chosen(std::vector<AdapterChoice>{{.id = {}, .name = "tone", .scale = 1}});
  EXPECT_EQ(model->info().adapter_bytes, info.memory.adapters);
}

TEST(MemoryEstimate, SizesAsPeopleWriteThem) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(int64_t{12} << 20), "12.0 MiB");
  EXPECT_EQ(size_text(int64_t{200} << 30), "200 GiB");
}

TEST(SystemMemory, TheLowestLimitOfTheGroupsCounts) {
  const testing::TempFolder folder;
  const auto write = [&](const fs::path& file, const std::string& text) {
    fs::create_directories((folder.path() / file).parent_path());
    std::ofstream(folder.path() / file) << text << "\n";
  };
  EXPECT_EQ(cgroup_memory_limit("0::/a/b\n", folder.path()), std::nullopt);
  write("a/b/memory.max", "max");
  EXPECT_EQ(cgroup_memory_limit("0::/a/b\n", folder.path()), std::nullopt);
  write("a/memory.max", "4096");
  EXPECT_EQ(cgroup_memory_limit("0::/a/b\n", folder.path()), 4096);
  write("a/b/memory.max", "8192");
  EXPECT_EQ(cgroup_memory_limit("0::/a/b\n", folder.path()), 4096);
  write("a/b/memory.max", "1024");
  EXPECT_EQ(cgroup_memory_limit("0::/a/b\n", folder.path()), 1024);
  // Inside a container the path is often not there, and the root is its own group.
  write("memory.max", "512");
  EXPECT_EQ(cgroup_memory_limit("0::/elsewhere\n", folder.path()), 512);
  // Version 1, beside an empty version 2.
  write("memory/c/memory.limit_in_bytes", "256");
  EXPECT_EQ(cgroup_memory_limit("5:cpu,memory:/c\n1:name=systemd:/\n", folder.path()), 256);
  EXPECT_EQ(cgroup_memory_limit("5:cpu,cpuacct:/c\n", folder.path()), std::nullopt);
  EXPECT_GT(usable_memory(), int64_t{64} << 20);
}

}  // namespace
}  // namespace mlxr
