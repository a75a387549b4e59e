// Loading and leaving: shared loads and what waits for them, names, files that are gone.
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "tests/core/temp_folder.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/model_manager_fixture.h"

namespace mlxr {
namespace {

using std::chrono::milliseconds;
using testing::Names;
using testing::Waiting;

class ModelManagerTest : public testing::ModelManagerFixture {};

TEST_F(ModelManagerTest, AModelThatLeavesIsShownAndWhatItCountsIsKept) {
  start({{"a", 30}});
  const auto answer = [](ServedModel& model) {
    testing::ask(model.scheduler(), testing::greedy_request({1, 2, 3}, 5));
  };
  auto old = manager_->acquire("a");
  answer(*old);
  EXPECT_TRUE(manager_->unload("a"));
  auto next = manager_->acquire("a");
  answer(*old);
  answer(*next);
  const auto infos = manager_->loaded();
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_FALSE(infos[0].leaving);
  EXPECT_TRUE(infos[1].leaving);
  EXPECT_EQ(infos[1].name, "a");
  EXPECT_EQ(infos[1].path, "/models/a");
  EXPECT_EQ(manager_->memory().reserved, 60);
  const uint64_t each = 5;
  wait_until([&] { return manager_->counted().at("a").generated_tokens == 3 * each; });
  answer(*old);
  old.reset();
  wait_until([&] { return manager_->memory().reserved == 30; });
  EXPECT_EQ(manager_->loaded().size(), 1u);
  EXPECT_EQ(manager_->counted().at("a").generated_tokens, 4 * each);
  next.reset();
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_EQ(manager_->counted().at("a").generated_tokens, 4 * each);
  EXPECT_EQ(manager_->counted().at("a").requests, 4u);
  EXPECT_EQ(manager_->counted().at("a").request_seconds.counts.size(),
            DurationHistogram::kBounds.size() + 1);
}

TEST_F(ModelManagerTest, AModelWhoseFilesAreGoneIsFoundInMemory) {
  start({{"a", 30}});
  auto used = manager_->acquire("a");
  {
    const std::lock_guard lock(mutex_);
    paths_.clear();
  }
  EXPECT_THROW(manager_->find("a"), Error);
  EXPECT_EQ(manager_->find_in_memory("a"), "a");
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_EQ(manager_->find_in_memory("a"), "a");
  EXPECT_FALSE(manager_->unload("a"));
  used.reset();
  wait_until([&] { return manager_->memory().reserved == 0; });
  EXPECT_THROW(manager_->find_in_memory("a"), Error);
}

TEST_F(ModelManagerTest, AForgottenModelLeavesNoBlocksOnDisk) {
  const testing::TempFolder folder;
  options_.kv_disk.folder = folder.path();
  const auto files = [&](const std::string& name) { return folder.path() / ("model-" + name); };
  for (const char* name : {"a", "b", "c"}) {
    std::filesystem::create_directory(files(name));
    for (const char* file : {"index", "blocks"}) write_file_atomic(files(name) / file, "x");
  }
  start({{"a", 30}, {"b", 30}, {"d", 80}});
  auto used = manager_->acquire("a");
  manager_->forget("a");
  EXPECT_TRUE(std::filesystem::exists(files("a") / "index"));
  used.reset();
  wait_until([&] { return !std::filesystem::exists(files("a") / "blocks"); });
  use("b");
  manager_->forget("b");
  EXPECT_FALSE(std::filesystem::exists(files("b") / "index"));
  manager_->forget("c");  // was not loaded
  EXPECT_FALSE(std::filesystem::exists(files("c") / "index"));
  std::filesystem::create_directory(files("d"));
  write_file_atomic(files("d") / "index", "x");
  used = manager_->acquire("a");
  Waiting waiting;
  const auto id = manager_->acquire(manager_->find("d"), {}, waiting.heard());
  manager_->forget("d");  // while it waits for room
  manager_->give_up(id);
  wait_until([&] { return !std::filesystem::exists(files("d") / "index"); });
  manager_->forget("nobody");
}

TEST_F(ModelManagerTest, RequestsShareALoadAndModelsLoadSideBySide) {
  start({{"a", 10}, {"b", 10}});
  loader_->hold("a");
  Waiting one, two;
  manager_->acquire(manager_->find("a"), {}, one.heard());
  manager_->acquire(manager_->find("a"), {}, two.heard());
  loader_->wait_for_load("a");
  EXPECT_EQ(manager_->memory().waiting, 2);
  use("b");  // while a is being loaded
  EXPECT_EQ(manager_->acquire_loaded(manager_->find("a")), nullptr);
  EXPECT_FALSE(one.has_heard());
  loader_->let_go("a");
  EXPECT_EQ(one.get().get(), two.get().get());
  EXPECT_EQ(loader_->begun("a"), 1);
  EXPECT_EQ(manager_->memory().waiting, 0);
}

TEST_F(ModelManagerTest, TheQueueOfALoadIsBounded) {
  options_.scheduler.max_queue = 2;
  start({{"a", 10}});
  loader_->hold("a");
  Waiting one, two, three;
  manager_->acquire(manager_->find("a"), {}, one.heard());
  manager_->acquire(manager_->find("a"), {}, two.heard());
  EXPECT_THROW(manager_->acquire(manager_->find("a"), {}, three.heard()), QueueFull);
  loader_->let_go("a");
  EXPECT_NE(one.get(), nullptr);
  EXPECT_NE(two.get(), nullptr);
  EXPECT_FALSE(three.has_heard());
}

TEST_F(ModelManagerTest, WhoWaitsTooLongHearsItAndTheLoadGoesOn) {
  options_.load_timeout = milliseconds(60000);
  start({{"a", 10}});
  loader_->hold("a");
  Waiting impatient, patient;
  manager_->acquire(manager_->find("a"), milliseconds(500), impatient.heard());
  manager_->acquire(manager_->find("a"), {}, patient.heard());
  loader_->wait_for_load("a");
  now_ms_ += 499;
  manager_->expire();
  EXPECT_FALSE(impatient.has_heard());
  now_ms_ += 1;
  manager_->expire();
  std::string said;
  EXPECT_EQ(impatient.error(&said), ErrorCode::kTimeout);
  EXPECT_NE(said.find("500 ms"), std::string::npos) << said;
  EXPECT_FALSE(patient.has_heard());
  now_ms_ += 60000;
  manager_->expire();
  EXPECT_THROW(patient.get(), StillLoading);
  EXPECT_EQ(manager_->memory().waiting, 0);
  loader_->let_go("a");
  EXPECT_NE(manager_->acquire("a"), nullptr);
  EXPECT_EQ(loader_->begun("a"), 1);
}

TEST_F(ModelManagerTest, WhoGivesUpLeavesNoTrace) {
  start({{"a", 10}, {"b", 10}});
  loader_->hold("a");
  Waiting one, two;
  const auto id = manager_->acquire(manager_->find("a"), {}, one.heard());
  loader_->wait_for_load("a");
  manager_->give_up(id);
  EXPECT_EQ(one.error(), ErrorCode::kUnavailable);
  EXPECT_EQ(manager_->memory().waiting, 0);
  manager_->give_up(id);  // once more: nothing
  manager_->acquire(manager_->find("a"), {}, two.heard());
  loader_->let_go("a");
  EXPECT_NE(two.get(), nullptr);
  manager_->give_up(id);
  // Nobody uses it: it may leave.
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_EQ(manager_->memory().reserved, 0);
  EXPECT_EQ(memory_.used(), 0);
}

TEST_F(ModelManagerTest, ALoadThatNobodyWaitsForAnyMoreNeverBegins) {
  std::map<std::string, int64_t> sizes;
  for (int i = 0; i < 20; ++i) sizes[std::to_string(i)] = 1;
  start(sizes);
  std::vector<std::unique_ptr<Waiting>> waiting;
  std::vector<ModelManager::WaitId> ids;
  for (const auto& [name, size] : sizes) loader_->hold(name);
  for (const auto& [name, size] : sizes) {
    waiting.push_back(std::make_unique<Waiting>());
    ids.push_back(manager_->acquire(manager_->find(name), {}, waiting.back()->heard()));
  }
  for (const auto id : ids) manager_->give_up(id);
  for (const auto& [name, size] : sizes) loader_->let_go(name);
  wait_until([&] { return manager_->memory().loading == 0; });
  int begun = 0;
  for (const auto& [name, size] : sizes) begun += loader_->begun(name);
  EXPECT_LT(begun, 20);
  EXPECT_EQ(manager_->memory().reserved, static_cast<int64_t>(loaded().size()));
}

TEST_F(ModelManagerTest, AModelThatIsUnloadedWhileItLoadsServesWhoWaits) {
  start({{"a", 10}});
  loader_->hold("a");
  Waiting one, late;
  manager_->acquire(manager_->find("a"), {}, one.heard());
  manager_->acquire(manager_->find("a"), milliseconds(100), late.heard());
  loader_->wait_for_load("a");
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_FALSE(manager_->unload("a"));
  now_ms_ += 100;
  manager_->expire();
  EXPECT_EQ(late.error(), ErrorCode::kTimeout);
  loader_->let_go("a");
  EXPECT_NE(one.get(), nullptr);
  EXPECT_EQ(loaded(), Names{});
  wait_until([&] { return memory_.used() == 0 && manager_->memory().reserved == 0; });
}

TEST_F(ModelManagerTest, ALoadThatFailsIsTriedAgain) {
  start({{"a", 10}});
  loader_->hold("a");
  loader_->fail_next();
  Waiting one, two;
  manager_->acquire(manager_->find("a"), {}, one.heard());
  manager_->acquire(manager_->find("a"), {}, two.heard());
  loader_->let_go("a");
  EXPECT_EQ(one.error(), ErrorCode::kCorruptFile);
  EXPECT_EQ(two.error(), ErrorCode::kCorruptFile);
  EXPECT_EQ(manager_->memory().reserved, 0);
  EXPECT_EQ(manager_->memory().failed_loads, 1u);
  EXPECT_EQ(manager_->memory().refused_loads, 0u);
  use("a");
  EXPECT_EQ(loaded(), (Names{"a"}));
}

TEST_F(ModelManagerTest, ANameThatComesToMeanAnotherFileIsLoadedAnew) {
  start({{"a", 60}});
  use("a");
  {
    const std::lock_guard lock(mutex_);
    paths_["a"] = "/models/other";
  }
  use("a");
  EXPECT_EQ(loader_->begun("a"), 2);
  EXPECT_EQ(unloads(UnloadReason::kReplaced), 1u);
  EXPECT_EQ(memory_.most(), 60);
}

TEST_F(ModelManagerTest, AFileThatIsReplacedOrWrittenIsLoadedAnew) {
  const testing::TempFolder folder;
  const auto file = folder.path() / "a";
  write_file_atomic(file, "one");
  start({{"a", 60}});
  paths_["a"] = file;
  const auto old = [&] {
    use("a");
    use("a");
    EXPECT_EQ(loader_->begun("a"), 1);
    return manager_->acquire("a");
  }();
  write_file_atomic(file, "two");  // another file of this name
  EXPECT_EQ(manager_->acquire_loaded(manager_->find("a")), nullptr);
  Waiting anew;
  manager_->acquire(manager_->find("a"), {}, anew.heard());
  EXPECT_EQ(unloads(UnloadReason::kReplaced), 1u);
  EXPECT_EQ(old->name(), "a");  // answers what it was asked
}

TEST_F(ModelManagerTest, AModelWhoseFileIsGoneStays) {
  const testing::TempFolder folder;
  const auto file = folder.path() / "a";
  write_file_atomic(file, "one");
  start({{"a", 60}});
  paths_["a"] = file;
  use("a");
  std::filesystem::remove(file);
  use("a");
  EXPECT_EQ(loader_->begun("a"), 1);
}

TEST_F(ModelManagerTest, AFolderWithAFileThatWasWrittenIsLoadedAnew) {
  const testing::TempFolder folder;
  write_file_atomic(folder.path() / "config.json", "{}");
  write_file_atomic(folder.path() / "model.safetensors", "weights");
  start({{"a", 30}});
  paths_["a"] = folder.path();
  use("a");
  use("a");
  EXPECT_EQ(loader_->begun("a"), 1);
  std::filesystem::resize_file(folder.path() / "model.safetensors", 3);
  use("a");
  EXPECT_EQ(loader_->begun("a"), 2);
  EXPECT_EQ(loaded(), (Names{"a"}));
}

TEST_F(ModelManagerTest, DrainingAnswersWhoWaits) {
  start({{"a", 10}});
  loader_->hold("a");
  Waiting one;
  manager_->acquire(manager_->find("a"), {}, one.heard());
  loader_->wait_for_load("a");
  manager_->drain(milliseconds(0));
  EXPECT_EQ(one.error(), ErrorCode::kUnavailable);
  EXPECT_THROW(manager_->acquire("a"), Error);
  loader_->let_go("a");
}

TEST_F(ModelManagerTest, AModelInUseOutlivesTheManager) {
  start({{"a", 10}, {"b", 10}});
  use("b");
  auto used = manager_->acquire("a");
  manager_.reset();
  EXPECT_EQ(memory_.used(), 10);
  EXPECT_EQ(used->info().name, "a");
  used.reset();
  EXPECT_EQ(memory_.used(), 0);
}

}  // namespace
}  // namespace mlxr
