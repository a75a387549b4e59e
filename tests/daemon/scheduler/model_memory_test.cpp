// Who is in memory: limits, eviction, keep_alive, adapters.
#include <gtest/gtest.h>

#include <random>

#include "daemon/scheduler/eviction.h"
#include "tests/daemon/scheduler/model_manager_fixture.h"

namespace mlxr {
namespace {

using std::chrono::milliseconds;
using testing::kPinned;
using testing::Names;
using testing::Waiting;

class ModelMemoryTest : public testing::ModelManagerFixture {};

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

TEST_F(ModelMemoryTest, TheLeastRecentlyUsedModelMakesRoom) {
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

TEST_F(ModelMemoryTest, PinnedModelsStay) {
  start({{"pinned", 30}, {"other", 30}, {"large", 50}, {"huge", 80}}, {{"pinned", kPinned}});
  use("pinned");
  use("other");
  now_ms_ += 1000000;
  const std::string said = refusal("huge");
  EXPECT_NE(said.find("80 B"), std::string::npos) << said;   // wanted
  EXPECT_NE(said.find("100 B"), std::string::npos) << said;  // limit
  EXPECT_NE(said.find("70 B"), std::string::npos) << said;   // all but the pinned one's
  EXPECT_EQ(loaded(), (Names{"other", "pinned"}));
  EXPECT_EQ(manager_->memory().refused_loads, 1u);
  use("large");
  EXPECT_EQ(loaded(), (Names{"large", "pinned"}));
  manager_->keep_alive("pinned", milliseconds(0));
  use("pinned");
  manager_->expire();
  EXPECT_EQ(loaded(), (Names{"large", "pinned"}));
  EXPECT_TRUE(manager_->unload("pinned"));
  EXPECT_EQ(loaded(), (Names{"large"}));
}

TEST_F(ModelMemoryTest, ALoadWaitsForModelsInUse) {
  start({{"a", 60}, {"b", 30}, {"c", 50}});
  auto a = manager_->acquire("a");
  auto b = manager_->acquire("b");
  Waiting c;
  manager_->acquire(manager_->find("c"), {}, c.heard());
  wait_until([&] { return loaded().size() == 1; });  // one that is in use is asked to leave
  EXPECT_FALSE(c.has_heard());
  EXPECT_EQ(manager_->memory().reserved, 90);
  a.reset();
  b.reset();
  EXPECT_EQ(c.get()->name(), "c");
  EXPECT_EQ(manager_->memory().refused_loads, 0u);
  EXPECT_LE(memory_.most(), 100);
}

TEST_F(ModelMemoryTest, IdleModelsLeaveBeforeThoseInUse) {
  start({{"a", 40}, {"b", 40}, {"c", 40}});
  const auto in_use = manager_->acquire("a");
  now_ms_ += 1000;
  use("b");
  use("c");
  EXPECT_EQ(loaded(), (Names{"a", "c"}));
}

TEST_F(ModelMemoryTest, ModelsWithRoomForOneAreServedInTurn) {
  start({{"a", 60}, {"b", 60}});
  auto first = manager_->acquire("a");
  Waiting b, again;
  manager_->acquire(manager_->find("b"), {}, b.heard());
  wait_until([&] { return loaded().empty(); });
  manager_->acquire(manager_->find("a"), {}, again.heard());
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(b.has_heard());
  EXPECT_FALSE(again.has_heard());
  first.reset();
  auto second = b.get();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(again.has_heard());
  second.reset();
  EXPECT_EQ(again.get()->name(), "a");
  EXPECT_EQ(loader_->begun("a"), 2);
  EXPECT_EQ(memory_.most(), 60);
}

TEST_F(ModelMemoryTest, WhoWaitsForAModelInUseCanGiveUpOrBeTooLate) {
  start({{"a", 60}, {"b", 60}, {"c", 40}});
  auto a = manager_->acquire("a");
  Waiting gives_up, late;
  const auto id = manager_->acquire(manager_->find("b"), {}, gives_up.heard());
  manager_->acquire(manager_->find("b"), milliseconds(500), late.heard());
  wait_until([&] { return loaded().empty(); });
  manager_->give_up(id);
  EXPECT_EQ(gives_up.error(), ErrorCode::kUnavailable);
  now_ms_ += 500;
  manager_->expire();
  EXPECT_EQ(late.error(), ErrorCode::kTimeout);
  wait_until([&] { return manager_->memory().loading == 0; });
  EXPECT_EQ(loaded(), (Names{"a"}));  // need not leave any more
  use("a");
  EXPECT_EQ(loader_->begun("a"), 1);
  use("c");  // there is room beside a, which answers still
  EXPECT_EQ(loader_->begun("b"), 0);
  EXPECT_EQ(manager_->memory().reserved, 100);
  a.reset();
  use("b");
  EXPECT_LE(memory_.most(), 100);
}

// Small models, of which there is always one on its way, would keep a large one waiting for ever.
TEST_F(ModelMemoryTest, OthersLeaveForWhoCameFirst) {
  start({{"a", 50}, {"b", 50}, {"large", 100}, {"c", 50}});
  loader_->hold("a");
  Waiting first, large, small;
  manager_->acquire(manager_->find("a"), {}, first.heard());
  loader_->wait_for_load("a");
  auto b = manager_->acquire("b");
  manager_->acquire(manager_->find("large"), {}, large.heard());
  wait_until([&] { return manager_->memory().loading == 2; });
  std::this_thread::sleep_for(milliseconds(20));
  manager_->acquire(manager_->find("c"), {}, small.heard());
  wait_until([&] { return manager_->memory().loading == 3; });
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(loaded(), (Names{"b"}));  // is not asked to leave for c
  loader_->let_go("a");
  EXPECT_EQ(first.get()->name(), "a");
  b.reset();
  auto model = large.get();
  EXPECT_EQ(model->name(), "large");
  EXPECT_FALSE(small.has_heard());
  model.reset();
  EXPECT_EQ(small.get()->name(), "c");
  EXPECT_EQ(memory_.most(), 100);
}

TEST_F(ModelMemoryTest, TheEndDoesNotWaitForRoom) {
  start({{"a", 60}, {"b", 60}});
  auto a = manager_->acquire("a");
  Waiting b;
  manager_->acquire(manager_->find("b"), {}, b.heard());
  wait_until([&] { return loaded().empty(); });
  manager_->drain(milliseconds(0));
  EXPECT_EQ(b.error(), ErrorCode::kUnavailable);
  wait_until([&] { return manager_->memory().loading == 0; });
  manager_.reset();
  EXPECT_EQ(memory_.used(), 60);
}

TEST_F(ModelMemoryTest, NobodyLeavesForALoadThatIsRefused) {
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

TEST_F(ModelMemoryTest, AModelThatLeavesCountsUntilItIsGone) {
  start({{"a", 60}, {"b", 60}});
  auto used = manager_->acquire("a");
  EXPECT_TRUE(manager_->unload("a"));
  EXPECT_EQ(loaded(), Names{});
  EXPECT_EQ(manager_->memory().reserved, 60);
  Waiting b;
  manager_->acquire(manager_->find("b"), {}, b.heard());
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(b.has_heard());
  used.reset();
  EXPECT_EQ(b.get()->name(), "b");
  EXPECT_EQ(memory_.most(), 60);
}

TEST_F(ModelMemoryTest, AdaptersThatAreAddedCountForTheLimit) {
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

TEST_F(ModelMemoryTest, AnAddedAdapterGoesWithItsModel) {
  start({{"a", 40}});
  auto model = manager_->acquire("a");
  manager_->add_adapter(*model, {"x", "/lora/20", 0});
  manager_->unload("a");
  manager_->add_adapter(*model, {"y", "/lora/30", 0});  // while it still answers
  EXPECT_EQ(manager_->memory().reserved, 90);
  model.reset();
  wait_until([&] { return manager_->memory().reserved == 0; });
}

TEST_F(ModelMemoryTest, AsManyModelsAsAreAllowed) {
  options_.memory_bytes = 0;
  options_.max_loaded_models = 2;
  start({{"a", 1}, {"b", 1}, {"c", 1}});
  use("a");
  use("b");
  use("c");
  EXPECT_EQ(loaded(), (Names{"b", "c"}));
  EXPECT_EQ(unloads(UnloadReason::kCount), 1u);
  auto b = manager_->acquire("b"), c = manager_->acquire("c");
  Waiting a;
  manager_->acquire(manager_->find("a"), {}, a.heard());
  wait_until([&] { return loaded().size() == 1; });
  EXPECT_FALSE(a.has_heard());
  b.reset();
  c.reset();
  EXPECT_EQ(a.get()->name(), "a");
}

TEST_F(ModelMemoryTest, WherePinnedModelsAreAllThatMayBeTheRestIsRefused) {
  options_.max_loaded_models = 1;
  start({{"a", 1}, {"b", 1}}, {{"a", kPinned}});
  use("a");
  EXPECT_NE(refusal("b").find("max_loaded_models"), std::string::npos);
}

TEST_F(ModelMemoryTest, IdleModelsLeaveInTime) {
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

TEST_F(ModelMemoryTest, ZeroUnloadsAfterTheLastUseAndNegativeNever) {
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

// Whatever happens when: the limit holds, everyone hears once, nothing is left over.
TEST_F(ModelMemoryTest, RandomMixesKeepTheLimit) {
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
      EXPECT_EQ(manager_->find_in_memory(name), name);  // beside whatever loads
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
