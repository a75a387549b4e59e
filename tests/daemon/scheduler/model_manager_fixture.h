// A ModelManager with a loader whose models compute nothing and whose loads end when the test says
// so.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "daemon/scheduler/model_loader.h"
#include "daemon/scheduler/model_manager.h"
#include "tests/daemon/scheduler/hash_engine.h"

namespace mlxr::testing {

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

class ModelManagerFixture : public ::testing::Test {
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
    options_.now = [this] { return Clock::time_point(std::chrono::milliseconds(now_ms_)); };
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
    for (int i = 0; i < 30000 && !true_at_last(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
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

inline const ModelSettings kPinned = [] {
  ModelSettings settings;
  settings.pin = true;
  return settings;
}();

}  // namespace mlxr::testing
