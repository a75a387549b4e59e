// What is estimated before a model is loaded, against what this process then really takes.
#include "daemon/scheduler/memory_estimate.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/base/system_memory.h"
#include "daemon/scheduler/model_manager.h"
#include "tests/core/temp_folder.h"
#include "tests/own_memory.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

using testing::own_memory;

struct Measured {
  ModelMemory model;
  MemoryEstimate estimate;
  int64_t grown = 0;
};

// Loads the model, fills its arena and computes a full step.
Measured load_and_use(const fs::path& path, bool interleave, const EngineOptions& options) {
  const auto threads = std::make_shared<ThreadPool>(2);
  const SchedulerOptions scheduler;
  const int64_t before = own_memory();
  Measured measured;
  measured.model = read_model_memory(path, interleave);
  measured.estimate =
      estimate_memory(measured.model, plan_kv(measured.model.spec, options), scheduler, false);
  const auto model = load_model(path, {.repack = interleave ? threads : nullptr});
  EXPECT_EQ(model->repacked_bytes, measured.model.weights.interleaved);
  Engine engine(model, options, threads);
  EXPECT_EQ(engine.kv_bytes(), measured.estimate.kv);
  const std::vector<std::byte> block(static_cast<size_t>(engine.block_bytes()));
  for (int64_t i = 0; i < engine.kv_bytes() / engine.block_bytes(); ++i) {
    engine.load_block(static_cast<BlockId>(i), block);
  }
  // Prompts whose last tokens want logits, as many as run together.
  const int32_t each = scheduler.max_batch_tokens / scheduler.max_sequences;
  const std::vector<int32_t> tokens(static_cast<size_t>(each), 300);
  std::vector<KvSequence> sequences;
  for (int32_t i = 0; i < scheduler.max_sequences; ++i) sequences.push_back(engine.new_sequence());
  std::vector<SequenceSlice> slices;
  for (KvSequence& kv : sequences) slices.push_back({.kv = &kv, .tokens = tokens});
  const StepLogits logits = engine.step(slices);
  EXPECT_EQ(logits.rows(), scheduler.max_sequences);
  measured.grown = own_memory() - before;
  return measured;
}

void expect_close(const Measured& measured) {
  const int64_t estimate = measured.estimate.total();
  // Never more than a tenth and 8 MiB (what malloc keeps, thread stacks, the code's own pages) over
  // what was said; and what was said is at most a third and 8 MiB too much.
  const int64_t slack = int64_t{8} << 20;
  EXPECT_LE(measured.grown, estimate + estimate / 10 + slack);
  EXPECT_GE(measured.grown, estimate - estimate / 3 - slack);
  std::printf("estimate %s (weights %s, KV %s, activations %s, other %s; mapped %s), grown %s\n",
              size_text(estimate).c_str(), size_text(measured.estimate.weights).c_str(),
              size_text(measured.estimate.kv).c_str(),
              size_text(measured.estimate.activations).c_str(),
              size_text(measured.estimate.other).c_str(),
              size_text(measured.estimate.mapped).c_str(), size_text(measured.grown).c_str());
}

const fs::path kDemo = fs::path(MLXR_SOURCE_DIR) / "models" / "mlxr-demo";

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

TEST(MemoryEstimate, ADraftModelAndItsArenaCount) {
  ModelManagerOptions options;
  options.threads = 1;
  options.engine.context_length = 256;
  options.model_folders = {fs::path(MLXR_SOURCE_DIR) / "models"};
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
