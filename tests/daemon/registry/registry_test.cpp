// Created models and blobs on disk: names that cannot become other paths, nothing half written,
// nothing kept that nobody needs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "core/base/error.h"
#include "daemon/registry/blob_models.h"
#include "daemon/registry/created_models.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    std::string name = (fs::temp_directory_path() / "mlxr-registry-XXXXXX").string();
    home_ = ::mkdtemp(name.data());
  }
  ~RegistryTest() override { fs::remove_all(home_); }

  std::string upload(const std::string& content) {
    const std::string digest = "sha256:" + sha256_hex(content);
    BlobStore::Upload upload(blobs(), digest);
    upload.write(content.substr(0, content.size() / 2));
    upload.write(content.substr(content.size() / 2));
    upload.commit();
    return digest;
  }
  BlobStore blobs() const { return BlobStore(home_ / "blobs"); }
  size_t files_in(const char* folder) const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(home_ / folder)) ++count;
    return count;
  }

  fs::path home_;
};

TEST_F(RegistryTest, AModelComesBackAsItWasKept) {
  const CreatedModels models(home_ / "created");
  EXPECT_TRUE(models.list().empty());
  CreatedModel model;
  model.name = "team/mario:v2";
  model.from = "/models/base.gguf";
  model.parent = "base";
  model.system = "It's-a me.\n\"Quoted\"";
  model.parameters = nlohmann::ordered_json::parse(R"({"temperature":0.5,"stop":["a","b"]})");
  model.messages = nlohmann::ordered_json::parse(R"([{"role":"user","content":"hi"}])");
  model.adapters = {{"tone", "/adapters/tone.gguf"}, {"style", "/adapters/style"}};
  models.put(model);
  const auto found = models.find("team/mario:v2");
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->adapters.size(), 2U);
  EXPECT_EQ(found->adapters[1].name, "style");
  EXPECT_EQ(found->adapters[1].path, "/adapters/style");
  EXPECT_EQ(found->from, model.from);
  EXPECT_EQ(found->system, model.system);
  EXPECT_EQ(found->parameters, model.parameters);
  EXPECT_EQ(found->messages, model.messages);
  EXPECT_FALSE(models.find("team/mario").has_value());
  model.system = "other";
  models.put(model);
  EXPECT_EQ(models.list().size(), 1U);
  EXPECT_EQ(models.list()[0].system, "other");
  EXPECT_TRUE(models.erase("team/mario:v2"));
  EXPECT_FALSE(models.erase("team/mario:v2"));
}

TEST_F(RegistryTest, NamesAreNoPaths) {
  const CreatedModels models(home_ / "created");
  for (const char* name : {"", "..", "../x", "a/../b", "/a", "a/", ".hidden", "a b", "a:b:c",
                           "a:", "a\\b", "a%2Fb", "\xc3\xa4"}) {
    CreatedModel model;
    model.name = name;
    EXPECT_THROW(models.put(model), Error) << name;
    EXPECT_FALSE(models.find(name).has_value()) << name;
  }
  EXPECT_FALSE(fs::exists(home_ / "created"));
  for (const char* name : {"a", "A-1.b_c", "a/b/c:d.e"}) {
    EXPECT_NO_THROW(check_model_name(name)) << name;
  }
}

TEST_F(RegistryTest, DamagedFilesAreLeftOut) {
  const CreatedModels models(home_ / "created");
  CreatedModel model;
  model.name = "good";
  models.put(model);
  std::ofstream(home_ / "created" / "bad.json") << "{\"name\": 3";
  std::ofstream(home_ / "created" / "typed.json") << "{\"name\": 3, \"from\": []}";
  ASSERT_EQ(models.list().size(), 1U);
  EXPECT_FALSE(models.find("bad").has_value());
}

TEST_F(RegistryTest, AnUploadIsWholeAndRightOrGone) {
  const std::string digest = "sha256:" + sha256_hex("abc");
  {
    BlobStore::Upload cut(blobs(), digest);
    cut.write("ab");
  }
  EXPECT_EQ(files_in("blobs"), 0U);
  {
    BlobStore::Upload wrong(blobs(), digest);
    wrong.write("abd");
    EXPECT_THROW(wrong.commit(), Error);
  }
  EXPECT_FALSE(blobs().has(digest));
  EXPECT_EQ(files_in("blobs"), 0U);
  upload("abc");
  EXPECT_TRUE(blobs().has(digest));
  upload("abc");
  EXPECT_EQ(files_in("blobs"), 1U);
}

TEST_F(RegistryTest, DigestsAreNoPaths) {
  const std::string zeros(64, '0');
  EXPECT_EQ(blobs().path("sha256:" + zeros), home_ / "blobs" / ("sha256-" + zeros));
  for (const std::string& digest :
       {std::string(), zeros, "sha256:" + zeros + "0", "sha256:../" + zeros.substr(3),
        "md5:" + zeros, "sha256:" + std::string(64, 'A')}) {
    EXPECT_THROW(blobs().path(digest), Error) << digest;
  }
}

TEST_F(RegistryTest, BlobsGoWithTheLastModelThatNeedsThem) {
  const std::string shared = upload("shared"), config = upload("{}"), other = upload("{ }");
  const fs::path first =
      link_blobs(blobs(), {{"config.json", config}, {"model.safetensors", shared}});
  const fs::path second =
      link_blobs(blobs(), {{"config.json", other}, {"model.safetensors", shared}});
  EXPECT_NE(first, second);
  remove_blobs(blobs(), first, {first, second});
  EXPECT_TRUE(fs::exists(first));
  remove_blobs(blobs(), first, {second});
  EXPECT_FALSE(fs::exists(first));
  EXPECT_FALSE(blobs().has(config));
  EXPECT_TRUE(blobs().has(shared));
  EXPECT_TRUE(fs::exists(second / "model.safetensors"));
  remove_blobs(blobs(), second, {});
  EXPECT_EQ(files_in("blobs"), 0U);
}

TEST_F(RegistryTest, AdaptersAreFilesOrAFolder) {
  const std::string config = upload("{}"), tensors = upload("tensors"), first = upload("GGUF one"),
                    second = upload("GGUF two");
  const auto folder = link_adapter_blobs(
      blobs(), {{"adapter_config.json", config}, {"adapter_model.safetensors", tensors}});
  ASSERT_EQ(folder.size(), 1U);
  EXPECT_TRUE(fs::exists(folder[0].path / "adapter_config.json"));
  EXPECT_TRUE(fs::exists(folder[0].path / "adapter_model.safetensors"));
  const auto both = link_adapter_blobs(blobs(), {{"tone.gguf", first}, {"style.gguf", second}});
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0].name, "style");
  EXPECT_EQ(both[0].path.extension(), ".gguf");
  EXPECT_NE(both[0].path, both[1].path);
  EXPECT_THROW(link_adapter_blobs(blobs(), {{"weights.bin", tensors}}), Error);
  EXPECT_THROW(link_adapter_blobs(blobs(), {{"x", "sha256:" + std::string(64, '0')}}), Error);
  remove_blobs(blobs(), folder[0].path, {both[0].path, both[1].path});
  remove_blobs(blobs(), both[0].path, {both[1].path});
  EXPECT_TRUE(fs::exists(both[1].path));
  EXPECT_EQ(files_in("blobs"), 2U);
}

TEST_F(RegistryTest, ModelsThatLieElsewhereAreNotTouched) {
  std::ofstream(home_ / "own.gguf") << "GGUF";
  remove_blobs(blobs(), home_ / "own.gguf", {});
  EXPECT_TRUE(fs::exists(home_ / "own.gguf"));
}

TEST_F(RegistryTest, AGgufIsKnownByItsFirstBytes) {
  const std::string digest = upload("GGUF and more");
  const fs::path model = link_blobs(blobs(), {{"any name", digest}});
  EXPECT_EQ(model.extension(), ".gguf");
  EXPECT_TRUE(fs::exists(model));
  EXPECT_THROW(link_blobs(blobs(), {{"model.bin", upload("something")}}), Error);
  EXPECT_THROW(link_blobs(blobs(), {{"a.gguf", "sha256:" + std::string(64, '1')}}), Error);
}

}  // namespace
}  // namespace mlxr
