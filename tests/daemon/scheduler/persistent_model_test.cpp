// A real, tiny model whose KV blocks outlive it: the same bits, and only for who would compute
// them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <future>
#include <set>

#include "core/base/file.h"
#include "core/runtime/kv/kv_identity.h"
#include "daemon/scheduler/kv_folders.h"
#include "daemon/scheduler/scheduler.h"
#include "tests/core/temp_folder.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/tiny_model.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using testing::Answer;
using testing::tiny_engine;

const fs::path kProgram = testing::source_dir() / "README.md";  // any file will do

struct Kept {
  KvType type;
  bool windows = false;
};

class PersistentModel : public ::testing::TestWithParam<Kept> {
 protected:
  KvDiskSettings settings() const {
    return {
        .enabled = true, .folder = folder_.path() / "kv", .bytes = 64 << 20, .program = kProgram};
  }
  // One answer of a scheduler of its own.
  GenerateEvent answer(const std::vector<int32_t>& prompt, KvDiskSettings how,
                       std::vector<float>& logprobs,
                       const std::vector<ScaledAdapter>& adapters = {}) const {
    auto engine = tiny_engine(
        40, GetParam().type, 2,
        GetParam().windows ? testing::with_windows(testing::tiny_model()) : testing::tiny_model());
    auto disk = open_kv_disk(disks_, *engine, "tiny", how);
    EXPECT_EQ(disk != nullptr, how.enabled);
    Scheduler scheduler(std::move(engine), {}, nullptr, std::move(disk));
    GenerateRequest request = testing::greedy_request(prompt, 24);
    request.ignore_eos = true;
    request.n_logprobs = 3;
    request.adapters = adapters;
    std::promise<GenerateEvent> done;
    scheduler.submit(request, [&](GenerateEvent&& event) {
      for (const GeneratedLogprob& each : event.logprobs) {
        logprobs.push_back(each.sampled.logprob);
        for (const auto& other : each.sampled.top) logprobs.push_back(other.logprob);
      }
      if (event.final) done.set_value(std::move(event));
    });
    return done.get_future().get();
  }

  testing::TempFolder folder_;
  mutable OpenKvDisks disks_;
};

TEST_P(PersistentModel, AnswersWithTheSameBitsAfterARestart) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 150; ++i) prompt.push_back(10 + i * 37 % 6000);
  std::vector<float> without, cold, warm;
  answer(prompt, {}, without);
  EXPECT_EQ(answer(prompt, settings(), cold).usage.cached_tokens, 0);
  EXPECT_EQ(answer(prompt, settings(), warm).usage.cached_tokens, 144);
  EXPECT_EQ(cold.size(), 24u * 4);
  EXPECT_EQ(cold, without);
  EXPECT_EQ(warm, cold);

  const auto listed = list_kv_folders(settings().folder);
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed.front().name, "tiny");
  EXPECT_EQ(listed.front().blocks, 10);  // 173 tokens
  EXPECT_FALSE(listed.front().in_use);

  KvDiskSettings newer = settings();
  newer.program = testing::source_dir() / "CONTRIBUTING.md";
  std::vector<float> other;
  EXPECT_EQ(answer(prompt, newer, other).usage.cached_tokens, 0);
  EXPECT_EQ(other, cold);
  // Both programs' blocks lie side by side.
  EXPECT_EQ(answer(prompt, settings(), other).usage.cached_tokens, 144);

  fs::remove(settings().folder / "secret");
  EXPECT_EQ(answer(prompt, settings(), other).usage.cached_tokens, 0);
}

TEST_P(PersistentModel, BlocksAreOfTheirAdapters) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 150; ++i) prompt.push_back(10 + i * 37 % 6000);
  const auto& loaded = testing::tiny_adapters();
  const std::vector<std::vector<ScaledAdapter>> all = {
      {}, {{loaded[0], 1}}, {{loaded[0], 0.5f}}, {{loaded[0], 1}, {loaded[1], 1}}};
  std::vector<std::vector<float>> cold(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(answer(prompt, settings(), cold[i], all[i]).usage.cached_tokens, 0) << i;
    for (size_t other = 0; other < i; ++other) EXPECT_NE(cold[i], cold[other]);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<float> warm;
    EXPECT_EQ(answer(prompt, settings(), warm, all[i]).usage.cached_tokens, 144) << i;
    EXPECT_EQ(warm, cold[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, PersistentModel,
                         ::testing::Values(Kept{KvType::kF16}, Kept{KvType::kQ8_0},
                                           Kept{KvType::kF16, true}, Kept{KvType::kQ8_0, true}));

TEST(KvFolders, AreLockedListedAndRemoved) {
  const testing::TempFolder folder;
  OpenKvDisks disks;
  const KvDiskSettings settings{
      .enabled = true, .folder = folder.path() / "kv", .bytes = 64 << 20, .program = kProgram};
  EXPECT_TRUE(list_kv_folders(settings.folder).empty());
  EXPECT_THROW(remove_kv_folder(settings.folder, "a b.c"), Error);
  {
    auto first = tiny_engine(4, KvType::kF16, 1), second = tiny_engine(4, KvType::kF16, 1);
    OpenKvDisks of_another;
    const auto disk = open_kv_disk(disks, *first, "a b.c", settings);
    ASSERT_TRUE(disk);
    EXPECT_FALSE(open_kv_disk(of_another, *second, "a b.c", settings));  // and runs without
    EXPECT_TRUE(list_kv_folders(settings.folder).at(0).in_use);
    EXPECT_THROW(remove_kv_folder(settings.folder, "a b.c"), Error);
    EXPECT_THROW(remove_kv_folder(settings.folder, "../kv"), Error);
  }
  remove_kv_folder(settings.folder, "a b.c");
  EXPECT_TRUE(list_kv_folders(settings.folder).empty());
  // A folder that cannot be made is no reason to serve nothing.
  auto engine = tiny_engine(4, KvType::kF16, 1);
  KvDiskSettings impossible = settings;
  impossible.folder = "/proc/nowhere/kv";
  EXPECT_FALSE(open_kv_disk(disks, *engine, "m", impossible));
  impossible = settings;
  impossible.bytes = 100;
  EXPECT_FALSE(open_kv_disk(disks, *engine, "m", impossible));
}

TEST(KvIdentity, IsOfEverythingThatChangesTheBits) {
  std::set<std::string> identities;
  const ModelSpec& spec = testing::tiny_model()->spec;
  const ArenaShape shape{spec.layers, spec.kv_heads, spec.head_dim, 16, KvType::kF16};
  const std::vector<RopeFrequencies> ropes{rope_frequencies(spec.rope, 100)};
  const auto add = [&](const Model& model, const ArenaShape& s, std::vector<RopeFrequencies> r,
                       const fs::path& program) {
    return identities.insert(kv_identity(model, s, r, program)).second;
  };
  const Model& model = *testing::tiny_model();
  EXPECT_TRUE(add(model, shape, ropes, kProgram));
  EXPECT_FALSE(add(model, shape, ropes, kProgram));
  ArenaShape changed = shape;
  changed.type = KvType::kBF16;
  EXPECT_TRUE(add(model, changed, ropes, kProgram));
  changed = shape;
  changed.block_tokens = 32;
  EXPECT_TRUE(add(model, changed, ropes, kProgram));
  changed = shape;
  changed.window_layers = 1;
  EXPECT_TRUE(add(model, changed, ropes, kProgram));
  auto scaled = ropes;
  scaled[0].inverse[1] *= 1 + 1e-15;
  EXPECT_TRUE(add(model, shape, scaled, kProgram));

  const testing::TempFolder folder;
  const fs::path program = folder.path() / "program";
  std::ofstream(program) << std::string(1'000'000, 'x');
  EXPECT_TRUE(add(model, shape, ropes, program));
  const auto time = fs::last_write_time(program);
  std::fstream(program).seekp(10'000).write("y", 1);
  fs::last_write_time(program, time);
  EXPECT_TRUE(add(model, shape, ropes, program));
  fs::last_write_time(program, time + std::chrono::seconds(1));
  EXPECT_TRUE(add(model, shape, ropes, program));

  Model other = model;
  other.path = folder.path() / "other.gguf";
  std::ofstream(other.path) << "weights";
  EXPECT_TRUE(add(other, shape, ropes, kProgram));
  std::ofstream(other.path) << "weighty";
  fs::last_write_time(other.path, time);
  EXPECT_TRUE(add(other, shape, ropes, kProgram));
}

TEST(KvIdentity, ASecretIsKeptAndItsOwners) {
  const testing::TempFolder folder;
  const HashKey first = folder_secret(folder.path()).key, again = folder_secret(folder.path()).key;
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  struct stat found {};
  ASSERT_EQ(::stat((folder.path() / "secret").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  EXPECT_EQ(found.st_size, 24);
  const std::string content = read_file(folder.path() / "secret");
  std::string changed = content;
  changed[3] ^= 4;
  for (const std::string& damaged : {std::string("short"), changed, content + "x", std::string()}) {
    std::ofstream(folder.path() / "secret") << damaged;
    const FolderSecret made = folder_secret(folder.path());
    EXPECT_TRUE(made.replaced);
    EXPECT_NE(made.key.low, first.low);
    EXPECT_FALSE(folder_secret(folder.path()).replaced);
    EXPECT_EQ(folder_secret(folder.path()).key.low, made.key.low);
  }
  // One of before it had a checksum.
  std::ofstream(folder.path() / "secret") << content.substr(0, 16);
  EXPECT_EQ(folder_secret(folder.path()).key.low, first.low);
  const testing::TempFolder another;
  EXPECT_FALSE(folder_secret(another.path()).replaced);
  EXPECT_NE(folder_secret(another.path()).key.low, folder_secret(folder.path()).key.low);
  EXPECT_NE(kv_key(first, "a").low, kv_key(first, "b").low);
}

}  // namespace
}  // namespace mlxr
