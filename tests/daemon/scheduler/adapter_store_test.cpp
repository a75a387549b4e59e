// A model's adapters: found by number and name, read once, read again when their files change.
#include "daemon/scheduler/adapter_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/core/temp_folder.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;
using Choice = std::vector<AdapterChoice>;

class Store : public ::testing::Test {
 protected:
  Store() {
    for (const char* name : {"a", "b", "c"}) write_file_atomic(folder_.path() / name, name);
    store_.emplace(
        "m",
        std::vector<AdapterSettings>{{"a", folder_.path() / "a", 0},
                                     {"b", folder_.path() / "b", 0.5F},
                                     {"broken", folder_.path() / "nothing", 0}},
        [this](const fs::path& path) { return load(path); },
        [](const fs::path& path) { return static_cast<int64_t>(fs::file_size(path)); });
  }
  std::shared_ptr<const Adapter> load(const fs::path& path) {
    ++loads_;
    if (entered_) entered_->set_value();
    if (opened_) opened_->get_future().wait();
    Adapter adapter;
    adapter.path = path;
    adapter.identity = read_file(path);  // throws Error{kNotFound}
    if (adapter.identity == "half") throw Error(ErrorCode::kCorruptFile, "half of it is missing");
    adapter.bytes = 100;
    return std::make_shared<Adapter>(adapter);
  }
  std::vector<std::pair<std::string, float>> chosen(const std::optional<Choice>& choice) {
    std::vector<std::pair<std::string, float>> out;
    for (const ScaledAdapter& one : store_->chosen(choice)) {
      out.emplace_back(one.adapter->identity, one.scale);
    }
    return out;
  }
  using Pairs = std::vector<std::pair<std::string, float>>;

  testing::TempFolder folder_;
  std::optional<AdapterStore> store_;
  std::atomic<int> loads_ = 0;
  std::optional<std::promise<void>> entered_, opened_;
};

AdapterChoice by_id(int64_t id, float scale = 1) { return {.id = id, .name = {}, .scale = scale}; }
AdapterChoice by_name(std::string name, float scale = 1) {
  return {.id = {}, .name = std::move(name), .scale = scale};
}

TEST_F(Store, FindsByNumberAndNameAndAddsUpInOneOrder) {
  EXPECT_EQ(loads_, 0);
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"a", 1.0F}}));
  EXPECT_EQ(chosen(Choice{by_name("b", -2)}), (Pairs{{"b", -2.0F}}));
  EXPECT_EQ(chosen(Choice{by_name("b"), by_id(0, 3)}), (Pairs{{"a", 3.0F}, {"b", 1.0F}}));
  EXPECT_EQ(chosen(Choice{}), Pairs{});
  EXPECT_EQ(chosen(Choice{by_name("broken", 0)}), Pairs{});
  EXPECT_EQ(loads_, 2);
  EXPECT_EQ(store_->bytes(), 200);
  EXPECT_EQ(store_->list()[2].loaded, nullptr);
}

TEST_F(Store, DefaultsAreForWhoNamesNone) {
  EXPECT_EQ(chosen(std::nullopt), (Pairs{{"b", 0.5F}}));
  store_->set_defaults({by_name("a", 0.25F)});
  EXPECT_EQ(chosen(std::nullopt), (Pairs{{"a", 0.25F}}));
  EXPECT_THROW(store_->set_defaults({by_name("broken")}), Error);
  EXPECT_EQ(chosen(std::nullopt), (Pairs{{"a", 0.25F}}));
  store_->set_defaults({});
  EXPECT_EQ(chosen(std::nullopt), Pairs{});
}

TEST_F(Store, SaysWhatThereIs) {
  const auto complaint = [&](const Choice& choice, ErrorCode code) -> std::string {
    try {
      store_->chosen(choice);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return "";
  };
  EXPECT_NE(
      complaint({by_name("tune")}, ErrorCode::kNotFound).find("\"tune\"; it has: a, b, broken"),
      std::string::npos);
  EXPECT_NE(complaint({by_id(7)}, ErrorCode::kNotFound).find("number 7"), std::string::npos);
  complaint({by_id(0), by_name("a")}, ErrorCode::kInvalidArgument);
  complaint({by_name("broken")}, ErrorCode::kNotFound);
  AdapterStore none("m", {}, [this](const fs::path& path) { return load(path); }, {});
  EXPECT_THROW(none.chosen(Choice{by_id(0)}), Error);
  EXPECT_TRUE(none.chosen(std::nullopt).empty());
}

TEST_F(Store, AChangedFileIsReadAgainAndAnAddedOneAtOnce) {
  const auto old = store_->chosen(Choice{by_id(0)}).front().adapter;
  write_file_atomic(folder_.path() / "a", "trained further");
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"trained further", 1.0F}}));
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"trained further", 1.0F}}));
  EXPECT_EQ(loads_, 2);
  EXPECT_EQ(old->identity, "a");  // who has it keeps it
  fs::remove(folder_.path() / "a");
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"trained further", 1.0F}}));
  store_->add({"c", folder_.path() / "c", 0});
  EXPECT_EQ(loads_, 3);
  EXPECT_EQ(store_->list()[3].settings.name, "c");
  EXPECT_THROW(store_->add({"d", folder_.path() / "d", 0}), Error);
  store_->add({"a", folder_.path() / "b", 0});
  EXPECT_EQ(store_->list().size(), 4U);
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"b", 1.0F}}));
}

TEST_F(Store, AHalfWrittenOneKeepsTheOld) {
  write_file_atomic(folder_.path() / "c", "half");
  EXPECT_THROW(store_->add({"c", folder_.path() / "c", 0}), Error);
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"a", 1.0F}}));
  write_file_atomic(folder_.path() / "a", "half");
  const int before = loads_;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"a", 1.0F}}));
  EXPECT_EQ(loads_, before + 1);  // it is not read at each request
  write_file_atomic(folder_.path() / "a", "all of it");
  EXPECT_EQ(chosen(Choice{by_id(0)}), (Pairs{{"all of it", 1.0F}}));
}

TEST_F(Store, ARemovedOneIsGoneAndNumbersStay) {
  const auto old = store_->chosen(Choice{by_name("b")});
  store_->remove("b");
  EXPECT_THROW(store_->remove("b"), Error);
  EXPECT_THROW(chosen(Choice{by_id(1)}), Error);
  EXPECT_EQ(chosen(std::nullopt), Pairs{});  // it was a default
  EXPECT_EQ(old.front().adapter->identity, "b");
  store_->add({"c", folder_.path() / "c", 0});
  EXPECT_EQ(store_->list().back().id, 3);
  EXPECT_EQ(chosen(Choice{by_id(3)}), (Pairs{{"c", 1.0F}}));
  EXPECT_EQ(store_->memory_of(folder_.path() / "c"), 1);
}

TEST_F(Store, ManyThatWantOneReadItOnceAndOthersDoNotWait) {
  store_->chosen(Choice{by_id(1)});
  entered_.emplace();
  opened_.emplace();
  const auto ask = [&] { return store_->chosen(Choice{by_id(0)}).front().adapter; };
  auto first = std::async(std::launch::async, ask);
  entered_->get_future().wait();
  auto second = std::async(std::launch::async, ask);
  EXPECT_EQ(chosen(Choice{by_id(1)}), (Pairs{{"b", 1.0F}}));  // while the other one is read
  opened_->set_value();
  EXPECT_EQ(first.get(), second.get());
  EXPECT_EQ(loads_, 2);
}

}  // namespace
}  // namespace mlxr
