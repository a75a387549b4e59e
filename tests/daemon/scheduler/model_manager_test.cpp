// Who is in memory: budgets, eviction, keep_alive, shared loads and what waits for them, with a
// loader whose models compute nothing and whose loads end when the test says so.
#include "daemon/scheduler/model_manager.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "core/base/file.h"
#include "daemon/scheduler/eviction.h"
#include "daemon/scheduler/model_loader.h"
#include "tests/core/temp_folder.h"
#include "tests/daemon/scheduler/collected_answer.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr {
namespace {

using std::chrono::milliseconds;
using testing::HashEngine;
using testing::HashEngineOptions;

// What models really take while they exist.
class Memory {
 public:
  void add(int64_t bytes) {
    const int64_t now = used_ += bytes;
    int64_t most = most_;
    while (now > most && !most_.compare_exchange_weak(most, now)) {
    }
  }
  int64_t used() const { return used_; }
  int64_t most() const { return most_; }

 private:
  std::atomic<int64_t> used_{0}, most_{0};
};

class CountedEngine : public HashEngine {
 public:
  CountedEngine(Memory& memory, int64_t bytes)
      : HashEngine(HashEngineOptions{}), memory_(memory), bytes_(bytes) {
    memory_.add(bytes_);
  }
  ~CountedEngine() override { memory_.add(-bytes_); }

 private:
  Memory& memory_;
  int64_t bytes_;
};

class FakeLoader : public ModelLoader {
 public:
  FakeLoader(std::map<std::string, int64_t> sizes, Memory& memory)
      : sizes_(std::move(sizes)), memory_(memory) {}

  // Loads of this model wait until they are let go.
  void hold(const std::string& name) {
    const std::lock_guard lock(mutex_);
    held_.insert(name);
  }
  void let_go(const std::string& name) {
    const std::lock_guard lock(mutex_);
    held_.erase(name);
    changed_.notify_all();
  }
  void wait_for_load(const std::string& name) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(60), [&] { return begun_[name] > 0; }));
  }
  int begun(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return begun_[name];
  }
  void fail_next() { fail_ = true; }

  std::unique_ptr<Opened> open(const ModelEntry& entry, const ModelSettings& settings) override {
    return std::make_unique<FakeOpened>(*this, entry, settings);
  }

 private:
  struct FakeOpened : Opened {
    FakeOpened(FakeLoader& of, ModelEntry its_entry, ModelSettings its_settings)
        : loader(of),
          entry(std::move(its_entry)),
          settings(std::move(its_settings)),
          size{.weights = 0,
               .kv = loader.sizes_.at(entry.name),
               .activations = 0,
               .other = 0,
               .adapters = 0,
               .mapped = 7} {}
    const MemoryEstimate& estimate() const override { return size; }
    std::shared_ptr<ServedModel> load() override { return loader.load(entry, settings, size); }

    FakeLoader& loader;
    const ModelEntry entry;
    const ModelSettings settings;
    const MemoryEstimate size;
  };

  // The name of its file says how large it is.
  static int64_t measure_adapter(const std::filesystem::path& path) {
    return std::stoll(path.filename().string());
  }
  static std::shared_ptr<const Adapter> load_adapter(const std::filesystem::path& path) {
    if (path.parent_path() == "/damaged") throw Error(ErrorCode::kCorruptFile, "it is damaged");
    Adapter adapter;
    adapter.bytes = measure_adapter(path);
    return std::make_shared<Adapter>(adapter);
  }

  std::shared_ptr<ServedModel> load(const ModelEntry& entry, const ModelSettings& settings,
                                    const MemoryEstimate& estimate) {
    {
      std::unique_lock lock(mutex_);
      ++begun_[entry.name];
      changed_.notify_all();
      changed_.wait(lock, [&] { return !held_.contains(entry.name); });
    }
    if (fail_.exchange(false)) throw Error(ErrorCode::kCorruptFile, "the file is damaged");
    auto scheduler = std::make_unique<Scheduler>(
        std::make_unique<CountedEngine>(memory_, estimate.total()), SchedulerOptions{});
    auto adapters = std::make_unique<AdapterStore>(entry.name, std::vector<AdapterSettings>(),
                                                   load_adapter, measure_adapter);
    return std::make_shared<ServedModel>(std::move(scheduler), std::move(adapters),
                                         ServedModelFacts{.name = entry.name,
                                                          .default_sampling = {},
                                                          .memory = estimate,
                                                          .pinned = settings.pin.value_or(false),
                                                          .truncates = false,
                                                          .shifts = {},
                                                          .load_seconds = 0,
                                                          .loaded_at = 0});
  }

  const std::map<std::string, int64_t> sizes_;
  Memory& memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> held_;
  std::map<std::string, int> begun_;
  std::atomic<bool> fail_{false};
};

// A request that waits for a model.
class Waiting {
 public:
  ModelManager::Heard heard() {
    return [state = state_](std::shared_ptr<ServedModel> model, std::exception_ptr failure) {
      EXPECT_EQ(++state->times, 1) << "heard twice";
      failure ? state->promise.set_exception(failure) : state->promise.set_value(std::move(model));
    };
  }
  std::shared_ptr<ServedModel> get() {
    auto future = state_->promise.get_future();
    EXPECT_EQ(future.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    return future.get();
  }
  // The code of the error that it heard.
  std::optional<ErrorCode> error(std::string* message = nullptr) {
    try {
      get();
    } catch (const Error& error) {
      if (message != nullptr) *message = error.what();
      return error.code();
    }
    return std::nullopt;
  }
  bool has_heard() const { return state_->times > 0; }

 private:
  struct State {
    std::atomic<int> times{0};
    std::promise<std::shared_ptr<ServedModel>> promise;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class ModelManagerTest : public ::testing::Test {
 protected:
  using Clock = ModelManager::Clock;

  void SetUp() override {
    options_.memory_bytes = 100;
    options_.created_models = [this] {
      const std::lock_guard lock(mutex_);
      std::vector<ModelEntry> entries;
      for (const auto& [name, path] : paths_) entries.push_back({name, path, false});
      return entries;
    };
    options_.now = [this] { return Clock::time_point(milliseconds(now_ms_)); };
  }

  ModelManager& start(std::map<std::string, int64_t> sizes,
                      std::map<std::string, ModelSettings> settings = {}) {
    for (const auto& [name, size] : sizes) paths_[name] = "/models/" + name;
    auto loader = std::make_unique<FakeLoader>(std::move(sizes), memory_);
    loader_ = loader.get();
    manager_ = std::make_unique<ModelManager>(
        options_,
        [settings](const std::string& name) {
          const auto found = settings.find(name);
          return found == settings.end() ? ModelSettings() : found->second;
        },
        std::move(loader));
    return *manager_;
  }
  // Uses a model, and lets go of it a second later.
  void use(const std::string& name) {
    const auto model = manager_->acquire(name);
    EXPECT_EQ(model->name(), name);
    now_ms_ += 1000;
  }
  std::vector<std::string> loaded() const {
    std::vector<std::string> names;
    for (const LoadedModelInfo& info : manager_->loaded()) {
      if (!info.leaving) names.push_back(info.name);
    }
    return names;
  }
  uint64_t unloads(UnloadReason reason) const {
    return manager_->memory().unloads[static_cast<size_t>(reason)];
  }
  std::string refusal(const std::string& name) {
    try {
      manager_->acquire(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
      return error.what();
    }
    return "";
  }
  void wait_until(const std::function<bool()>& true_at_last) {
    for (int i = 0; i < 30000 && !true_at_last(); ++i) std::this_thread::sleep_for(milliseconds(2));
    EXPECT_TRUE(true_at_last());
  }

  ModelManagerOptions options_;
  std::mutex mutex_;
  std::map<std::string, std::filesystem::path> paths_;
  std::atomic<int64_t> now_ms_{1000};
  Memory memory_;
  FakeLoader* loader_ = nullptr;
  std::unique_ptr<ModelManager> manager_;
};

using Names = std::vector<std::string>;

const ModelSettings kPinned = [] {
  ModelSettings settings;
  settings.pin = true;
  return settings;
}();

TEST(Eviction, TakesTheOldestAndNoMoreThanItMust) {
  const auto at = [](int second) {
    return ModelManager::Clock::time_point(std::chrono::seconds(second));
  };
  const std::vector<Resident> all = {
      {30, at(3), true}, {40, at(1), true}, {20, at(2), true}, {10, at(0), false}};
  EXPECT_EQ(choose_eviction(all, 100, 5, {110, 0}).leave, std::vector<size_t>{});
  EXPECT_EQ(choose_eviction(all, 100, 15, {110, 0}).leave, (std::vector<size_t>{1}));
  EXPECT_EQ(choose_eviction(all, 100, 60, {110, 0}).leave, (std::vector<size_t>{1, 2}));
  EXPECT_EQ(choose_eviction(all, 100, 100, {110, 0}).leave, (std::vector<size_t>{1, 2, 0}));
  const Eviction too_much = choose_eviction(all, 100, 107, {110, 0});
  EXPECT_FALSE(too_much.fits);
  EXPECT_TRUE(too_much.leave.empty());
  EXPECT_EQ(too_much.missing, 7);
  EXPECT_TRUE(choose_eviction(all, 100, 1 << 30, {0, 0}).fits);
  EXPECT_EQ(choose_eviction(all, 100, 1, {0, 4}).leave, (std::vector<size_t>{1}));
  EXPECT_EQ(choose_eviction(all, 100, 1, {0, 2}).leave, (std::vector<size_t>{1, 2, 0}));
  EXPECT_FALSE(choose_eviction(all, 100, 1, {0, 1}).fits);
  EXPECT_EQ(choose_eviction(all, 100, 1, {0, 1}).missing, 0);
}

TEST_F(ModelManagerTest, TheLeastRecentlyUsedModelMakesRoom) {
  start({{"a", 40}, {"b", 40}, {"c", 40}});
  use("a");
  use("b");
  use("a");
  use("c");
  EXPECT_EQ(loaded(), (Names{"a", "c"}));
  EXPECT_EQ(unloads(UnloadReason::kMemory), 1u);
  EXPECT_EQ(manager_->memory().reserved, 80);
  EXPECT_EQ(memory_.used(), 80);
  EXPECT_EQ(memory_.most(), 80);  // b was gone before c came
  EXPECT_EQ(manager_->memory().loads, 3u);
}

TEST_F(ModelManagerTest, PinnedModelsAndThoseInUseStay) {
  start({{"pinned", 30}, {"busy", 30}, {"large", 50}}, {{"pinned", kPinned}});
  use("pinned");
  auto busy = manager_->acquire("busy");
  now_ms_ += 1000000;
  const std::string said = refusal("large");
  EXPECT_NE(said.find("50 B"), std::string::npos) << said;   // wanted
  EXPECT_NE(said.find("100 B"), std::string::npos) << said;  // limit
  EXPECT_NE(said.find("40 B"), std::string::npos) << said;   // free
  EXPECT_EQ(loaded(), (Names{"busy", "pinned"}));
  EXPECT_EQ(manager_->memory().refused_loads, 1u);
  busy.reset();
  use("large");
  EXPECT_EQ(loaded(), (Names{"large", "pinned"}));
  manager_->keep_alive("pinned", milliseconds(0));
  use("pinned");
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"large", "pinned"}));
  EXPECT_TRUE(manager_->unload("pinned"));
  EXPECT_EQ(loaded(), (Names{"large"}));
}

TEST_F(ModelManagerTest, NobodyLeavesForALoadThatIsRefused) {
  start({{"a", 30}, {"b", 30}, {"monster", 150}});
  use("a");
  use("b");
  const std::string said = refusal("monster");
  EXPECT_NE(said.find("150 B"), std::string::npos) << said;
  EXPECT_NE(said.find("more than the limit of 100 B"), std::string::npos) << said;
  EXPECT_NE(said.find("memory_bytes"), std::string::npos) << said;
  EXPECT_EQ(loaded(), (Names{"a", "b"}));
  EXPECT_EQ(manager_->memory().reserved, 60);
  EXPECT_EQ(loader_->begun("monster"), 0);
}

TEST_F(ModelManagerTest, AModelThatLeavesCountsUntilItIsGone) {
  start({{"a", 60}, {"b", 60}});
  auto used = manager_->acquire("a");
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_EQ(loaded(), Names{});
  EXPECT_EQ(manager_->memory().reserved, 60);
  EXPECT_NE(refusal("b"), "");
  used.reset();
  use("b");
  EXPECT_EQ(memory_.most(), 60);
}

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
  start({{"a", 30}, {"b", 30}});
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
  manager_->forget("nobody");
}

TEST_F(ModelManagerTest, AdaptersThatAreAddedCountForTheLimit) {
  start({{"a", 40}, {"b", 30}});
  use("b");
  const auto model = manager_->acquire("a");
  manager_->add_adapter(*model, {"x", "/lora/20", 0});
  EXPECT_EQ(manager_->memory().reserved, 90);
  EXPECT_EQ(manager_->loaded().front().memory.total(), 60);
  EXPECT_EQ(loaded(), (Names{"a", "b"}));
  manager_->add_adapter(*model, {"y", "/lora/40", 0});  // b leaves for it
  EXPECT_EQ(loaded(), Names{"a"});
  EXPECT_EQ(manager_->memory().reserved, 100);
  try {
    manager_->add_adapter(*model, {"z", "/lora/7", 0});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("the adapter \"z\" needs 7 B"), std::string::npos);
  }
  EXPECT_EQ(model->adapters().list().size(), 2u);
  manager_->remove_adapter(*model, "y");
  EXPECT_EQ(manager_->memory().reserved, 60);
  EXPECT_THROW(manager_->remove_adapter(*model, "y"), Error);
  EXPECT_THROW(manager_->add_adapter(*model, {"z", "/damaged/7", 0}), Error);
  EXPECT_EQ(manager_->memory().reserved, 60);
  manager_->add_adapter(*model, {"x", "/lora/5", 0});  // in the place of the other
  EXPECT_EQ(manager_->memory().reserved, 45);
  EXPECT_EQ(model->adapters().bytes(), 5);
}

TEST_F(ModelManagerTest, AnAddedAdapterGoesWithItsModel) {
  start({{"a", 40}});
  auto model = manager_->acquire("a");
  manager_->add_adapter(*model, {"x", "/lora/20", 0});
  manager_->unload("a");
  manager_->add_adapter(*model, {"y", "/lora/30", 0});  // while it still answers
  EXPECT_EQ(manager_->memory().reserved, 90);
  model.reset();
  wait_until([&] { return manager_->memory().reserved == 0; });
}

TEST_F(ModelManagerTest, AsManyModelsAsAreAllowed) {
  options_.memory_bytes = 0;
  options_.max_loaded_models = 2;
  start({{"a", 1}, {"b", 1}, {"c", 1}});
  use("a");
  use("b");
  use("c");
  EXPECT_EQ(loaded(), (Names{"b", "c"}));
  EXPECT_EQ(unloads(UnloadReason::kCount), 1u);
  const auto b = manager_->acquire("b"), c = manager_->acquire("c");
  EXPECT_NE(refusal("a").find("max_loaded_models"), std::string::npos);
}

TEST_F(ModelManagerTest, IdleModelsLeaveInTime) {
  start({{"a", 1}, {"b", 1}});
  use("a");
  use("b");
  manager_->keep_alive("a", milliseconds(5000));
  const auto until = manager_->expires("a");
  ASSERT_TRUE(until);
  EXPECT_EQ(*until, Clock::time_point(milliseconds(2000 + 5000)));  // its use ended at 2000
  EXPECT_EQ(manager_->expires("b"), std::nullopt);
  now_ms_ = 6999;
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"a", "b"}));
  {
    const auto in_use = manager_->acquire("a");
    now_ms_ = 50000;
    manager_->expire();
    EXPECT_EQ(loaded(), (Names{"a", "b"}));
  }
  now_ms_ = 54999;
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"a", "b"}));
  now_ms_ = 55000;
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"b"}));
  EXPECT_EQ(unloads(UnloadReason::kIdle), 1u);
  // Loaded anew it has no time but the setting's.
  use("a");
  now_ms_ += 1000000;
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"a", "b"}));
}

TEST_F(ModelManagerTest, ZeroUnloadsAfterTheLastUseAndNegativeNever) {
  options_.keep_alive = milliseconds(1000);
  start({{"a", 1}});
  {
    auto one = manager_->acquire("a"), two = manager_->acquire("a");
    manager_->keep_alive("a", milliseconds(0));
    one.reset();
    EXPECT_EQ(loaded(), (Names{"a"}));
  }
  EXPECT_EQ(loaded(), Names{});
  wait_until([&] { return memory_.used() == 0 && manager_->memory().reserved == 0; });
  use("a");
  manager_->keep_alive("a", milliseconds(-1));
  now_ms_ += 1000000;
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"a"}));
  EXPECT_TRUE(manager_->unload("a"));
  use("a");
  now_ms_ += 1000;  // the setting's
  manager_->expire();
  EXPECT_EQ(loaded(), Names{});
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

// Whatever happens when: the limit holds, everyone hears once, nothing is left over.
TEST_F(ModelManagerTest, RandomMixesKeepTheLimit) {
  options_.now = nullptr;
  options_.memory_bytes = 100;
  const std::map<std::string, int64_t> sizes = {
      {"a", 20}, {"b", 35}, {"c", 50}, {"d", 70}, {"e", 5}};
  start(sizes, {{"e", kPinned}});
  std::atomic<int> answered{0}, refused{0}, gave_up{0};
  const auto client = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 150; ++i) {
      const std::string name(1, static_cast<char>('a' + random() % 5));
      Waiting waiting;
      const auto timeout = random() % 10 == 0 ? std::optional(milliseconds(1)) : std::nullopt;
      const auto id = manager_->acquire(manager_->find(name), timeout, waiting.heard());
      if (random() % 10 == 0) manager_->give_up(id);
      if (random() % 15 == 0) manager_->keep_alive(name, milliseconds(random() % 3));
      if (random() % 40 == 0) manager_->unload(name);
      try {
        const auto model = waiting.get();
        EXPECT_EQ(model->name(), name);
        ++answered;
        if (random() % 2 == 0)
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
      } catch (const Error& error) {
        error.code() == ErrorCode::kOutOfMemory ? ++refused : ++gave_up;
      }
    }
  };
  std::vector<std::thread> clients;
  for (uint32_t seed = 1; seed <= 6; ++seed) clients.emplace_back(client, seed);
  for (std::thread& one : clients) one.join();
  EXPECT_GT(answered, 100);
  EXPECT_LE(memory_.most(), 100);
  EXPECT_EQ(manager_->memory().waiting, 0);
  for (const auto& [name, size] : sizes) manager_->unload(name);
  wait_until([&] { return manager_->memory().loading == 0 && manager_->memory().reserved == 0; });
  EXPECT_EQ(memory_.used(), 0);
}

}  // namespace
}  // namespace mlxr
