// Where settings come from, which wins, and what is said about wrong ones.
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/error.h"
#include "daemon/config/command_line.h"
#include "daemon/config/load_config.h"
#include "daemon/config/model_settings.h"
#include "daemon/config/yaml_map.h"
#include "tests/source_dir.h"

namespace mlxr {
namespace {

namespace fs = std::filesystem;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    home_ = fs::path(::testing::TempDir()) /
            ("mlxr-config-" +
             std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(home_);
    fs::create_directories(home_);
  }
  void TearDown() override { fs::remove_all(home_); }

  fs::path write(const std::string& name, const std::string& text) const {
    const fs::path path = home_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }

  ConfigSources sources() const {
    ConfigSources sources;
    sources.home = home_;
    sources.environment = [this](const std::string& name) -> const char* {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    };
    return sources;
  }

  std::string complaint(const std::string& yaml) const {
    ConfigSources from = sources();
    from.config_file = write("bad.yaml", yaml);
    return complaint_of(from);
  }

  static std::string complaint_of(const ConfigSources& from) {
    try {
      load_config(from);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return "";
  }

  fs::path home_;
  std::map<std::string, std::string> environment_;
};

void expect_equal(const ServerConfig& a, const ServerConfig& b) {
  EXPECT_EQ(a.host, b.host);
  EXPECT_EQ(a.port, b.port);
  EXPECT_EQ(a.allowed_hosts, b.allowed_hosts);
  EXPECT_EQ(a.allowed_origins, b.allowed_origins);
  EXPECT_EQ(a.requests_per_minute, b.requests_per_minute);
  EXPECT_EQ(a.tokens_per_minute, b.tokens_per_minute);
  EXPECT_EQ(a.concurrent_requests, b.concurrent_requests);
  EXPECT_EQ(a.tls_cert, b.tls_cert);
  EXPECT_EQ(a.tls_key, b.tls_key);
  EXPECT_EQ(a.require_api_key, b.require_api_key);
  EXPECT_EQ(a.socket, b.socket);
  EXPECT_EQ(a.threads, b.threads);
  EXPECT_EQ(a.model_folders, b.model_folders);
  EXPECT_EQ(a.default_model, b.default_model);
  EXPECT_EQ(a.context_length, b.context_length);
  EXPECT_EQ(a.kv_bytes, b.kv_bytes);
  EXPECT_EQ(a.kv_type, b.kv_type);
  EXPECT_EQ(a.kv_disk, b.kv_disk);
  EXPECT_EQ(a.kv_disk_folder, b.kv_disk_folder);
  EXPECT_EQ(a.kv_disk_bytes, b.kv_disk_bytes);
  EXPECT_EQ(a.repack, b.repack);
  EXPECT_EQ(a.max_batch_tokens, b.max_batch_tokens);
  EXPECT_EQ(a.target_latency_ms, b.target_latency_ms);
  EXPECT_EQ(a.max_sequences, b.max_sequences);
  EXPECT_EQ(a.max_queue, b.max_queue);
  EXPECT_EQ(a.max_body_bytes, b.max_body_bytes);
  EXPECT_EQ(a.response_store_bytes, b.response_store_bytes);
  EXPECT_EQ(a.request_timeout_s, b.request_timeout_s);
  EXPECT_EQ(a.shutdown_timeout_s, b.shutdown_timeout_s);
  EXPECT_EQ(a.log_level, b.log_level);
}

TEST_F(ConfigTest, ShippedFileListsExactlyTheSettingsWithTheirDefaults) {
  const fs::path shipped = testing::source_dir() / "configs" / "server.yaml";
  std::set<std::string> listed;
  for (const YamlEntry& entry : read_yaml_map(shipped)) {
    listed.insert(entry.key);
  }
  std::set<std::string> known;
  for (const Setting& setting : server_settings(home_)) {
    known.insert(setting.key);
  }
  EXPECT_EQ(listed, known);

  ServerConfig read;
  apply_config_file(read, server_settings(home_), shipped);
  expect_equal(read, default_config(server_settings(home_)));
}

TEST_F(ConfigTest, ShippedModelSettingsAreValidAndDocumented) {
  const fs::path folder = testing::source_dir() / "configs" / "models";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") {
      EXPECT_NO_THROW(read_model_settings(entry.path())) << entry.path();
      ++files;
    }
  }
  EXPECT_GT(files, 0);
  std::ifstream readme(folder / "README.md");
  const std::string text((std::istreambuf_iterator<char>(readme)),
                         std::istreambuf_iterator<char>());
  for (const std::string& key : model_setting_keys()) {
    EXPECT_NE(text.find("| `" + key + "` |"), std::string::npos) << key;
  }
}

TEST_F(ConfigTest, FlagsBeatEnvironmentBeatsFileBeatsDefault) {
  write("server.yaml", "port: 1111\nmax_queue: 5\nmax_sequences: 7\n");
  environment_ = {{"MLXR_PORT", "2222"}, {"MLXR_MAX_QUEUE", "6"}};
  ConfigSources from = sources();
  from.flags["port"] = {"3333"};
  const ServerConfig config = load_config(from).config;
  EXPECT_EQ(config.port, 3333);
  EXPECT_EQ(config.max_queue, 6);
  EXPECT_EQ(config.max_sequences, 7);
  EXPECT_EQ(config.max_batch_tokens, 512);
  EXPECT_TRUE(config.given.contains("port"));
  EXPECT_FALSE(config.given.contains("max_batch_tokens"));
}

TEST_F(ConfigTest, ExplicitFileReplacesTheUsualOne) {
  write("server.yaml", "port: 1111\n");
  ConfigSources from = sources();
  from.config_file = write("other.yaml", "max_queue: 3\n");
  const LoadedConfig loaded = load_config(from);
  EXPECT_EQ(loaded.config.port, 11435);
  EXPECT_EQ(loaded.config.max_queue, 3);
  EXPECT_EQ(loaded.file, from.config_file);
}

TEST_F(ConfigTest, MissingExplicitFileIsNamed) {
  ConfigSources from = sources();
  from.config_file = home_ / "nowhere.yaml";
  try {
    load_config(from);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nowhere.yaml"), std::string::npos);
  }
}

TEST_F(ConfigTest, PathsAndListsAreExpanded) {
  environment_ = {{"MLXR_MODEL_FOLDERS", "$MLXR_HOME/a:/b"}};
  const ServerConfig config = load_config(sources()).config;
  EXPECT_EQ(config.model_folders, (std::vector<fs::path>{home_ / "a", "/b"}));
  EXPECT_EQ(config.socket, home_ / "mlxr.sock");
  environment_ = {{"MLXR_ALLOWED_ORIGINS", "http://a:1,https://b"}};
  EXPECT_EQ(load_config(sources()).config.allowed_origins,
            (std::vector<std::string>{"http://a:1", "https://b"}));
}

TEST_F(ConfigTest, UnknownKeyNamesFileLineAndTheNearestKey) {
  const std::string text = complaint("# comment\nport: 1\nmax_que: 3\n");
  EXPECT_NE(text.find("bad.yaml:3: unknown setting \"max_que\""), std::string::npos) << text;
  EXPECT_NE(text.find("did you mean \"max_queue\""), std::string::npos) << text;
  EXPECT_NE(text.find("shutdown_timeout_s"), std::string::npos) << text;
}

TEST_F(ConfigTest, WrongValuesNameFileLineAndWhatIsAllowed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"port: eighty\n",
       "bad.yaml:1: \"port\" is \"eighty\"; it must be a whole number from 0 to 65535"},
      {"\nport: 70000\n", "bad.yaml:2: \"port\" is \"70000\""},
      {"kv_type: q8\n", "it must be one of f32, f16, bf16, q8_0, q4_0, fp8"},
      {"kv_bytes: lots\n", "a size such as 2GiB"},
      {"host: box.example\n", "an IP address of this machine"},
      {"allowed_hosts: [\"http://box\"]\n", "a list of host names"},
      {"allowed_origins: [app.example]\n", "a list of origins"},
      {"allowed_origins: [\"https://app.example/\"]\n", "a list of origins"},
      {"require_api_key: maybe\n", "one of true, false"},
      {"port: [1, 2]\n", "\"port\" is a list; it must be one value"},
      {"port:\n", "bad.yaml:1: \"port\" has no value"},
      {"port: {a: 1}\n", "\"port\" is a map"},
      {"model_folders: [{a: 1}]\n", "\"model_folders\" must be a list of plain values"},
      {"model_folders: [x, {a: 1}]\n", "\"model_folders\" must be a list of plain values"},
      {"port: 1\nport: 2\n", "bad.yaml:2: \"port\" is set twice"},
      {"- a\n- b\n", "lines of the form"},
      {"port: 1\n  bad: [\n", "this is not YAML"},
      {"log_level: loud\n", "one of trace, debug, info, warn, error"},
  };
  for (const auto& [yaml, wanted] : cases) {
    const std::string text = complaint(yaml);
    EXPECT_NE(text.find(wanted), std::string::npos) << yaml << text;
  }
}

TEST_F(ConfigTest, WrongEnvironmentAndFlagsAreNamed) {
  environment_ = {{"MLXR_THREADS", "many"}};
  EXPECT_EQ(complaint_of(sources()).find("MLXR_THREADS: \"threads\" is \"many\""), 0U);
  environment_.clear();
  ConfigSources from = sources();
  from.flags["max_queue"] = {"0"};
  EXPECT_EQ(complaint_of(from).find("--max-queue: "), 0U);
}

TEST_F(ConfigTest, EmptyFileIsAllDefaults) {
  write("server.yaml", "# nothing\n");
  EXPECT_EQ(load_config(sources()).config.port, 11435);
}

TEST_F(ConfigTest, CommandLineKnowsEverySetting) {
  const std::vector<Setting> settings = server_settings(home_);
  const char* help[] = {"mlxrunnerd", "--help"};
  const std::string text = *parse_command_line(2, help, settings, "1").print_and_exit;
  for (const Setting& setting : settings) {
    EXPECT_NE(text.find(setting.flag_name()), std::string::npos) << setting.key;
    EXPECT_NE(text.find(setting.environment_name()), std::string::npos) << setting.key;
  }
  const char* line[] = {"mlxrunnerd", "--port",          "0", "--model",
                        "a.gguf",     "--model",         "b", "--model-folders",
                        "/x",         "--model-folders", "/y"};
  const CommandLine parsed = parse_command_line(11, line, settings, "1");
  EXPECT_EQ(parsed.models, (std::vector<std::string>{"a.gguf", "b"}));
  EXPECT_EQ(parsed.flags.at("port"), std::vector<std::string>{"0"});
  EXPECT_EQ(parsed.flags.at("model_folders"), (std::vector<std::string>{"/x", "/y"}));
  const char* wrong[] = {"mlxrunnerd", "--prot", "1"};
  EXPECT_THROW(parse_command_line(3, wrong, settings, "1"), Error);
}

TEST_F(ConfigTest, ModelSettingsComeFromTheFirstFolderThatHasThem) {
  write("first/m.yaml", "temperature: 0.25\n");
  write("second/m.yaml", "temperature: 0.5\n");
  write("second/n.yaml",
        "top_k: 3\nkv_type: f32\nkv_bytes: 1MiB\ncontext_length: 99\n"
        "speculation: draft\ndraft_model: m\nspeculation_depth: 3\npooling: cls\n");
  const ModelSettingsFinder finder({home_ / "first", home_ / "second"});
  EXPECT_FLOAT_EQ(*finder.find("m").temperature, 0.25F);
  const ModelSettings n = finder.find("n");
  EXPECT_EQ(*n.top_k, 3);
  EXPECT_EQ(*n.kv_type, KvType::kF32);
  EXPECT_EQ(*n.kv_bytes, 1 << 20);
  EXPECT_EQ(*n.context_length, 99);
  EXPECT_EQ(*n.speculation, SpeculationMode::kDraft);
  EXPECT_EQ(*n.draft_model, "m");
  EXPECT_EQ(*n.speculation_depth, 3);
  EXPECT_EQ(n.pooling, Pooling::kCls);
  EXPECT_FALSE(finder.find("unknown").temperature);
  EXPECT_FALSE(finder.find("../first/m").temperature);
}

TEST_F(ConfigTest, AdaptersAreAListOfMaps) {
  const ModelSettings settings = read_model_settings(
      write("m/a.yaml",
            "top_k: 3\nadapters:\n  - {name: tone, path: tone-lora, scale: 0.5}\n"
            "  - path: /far/style.gguf\n"));
  ASSERT_EQ(settings.adapters.size(), 2U);
  EXPECT_EQ(settings.adapters[0].name, "tone");
  EXPECT_EQ(settings.adapters[0].path, home_ / "m" / "tone-lora");
  EXPECT_FLOAT_EQ(settings.adapters[0].scale, 0.5F);
  EXPECT_EQ(settings.adapters[1].name, "style");
  EXPECT_EQ(settings.adapters[1].path, "/far/style.gguf");
  EXPECT_EQ(settings.adapters[1].scale, 0);
  for (const auto& [yaml, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"adapters: tone\n", "b.yaml:1: \"adapters\" must be a list"},
           {"adapters: [tone]\n", "b.yaml:1: \"adapters\" must be a list"},
           {"adapters:\n  - {name: x}\n", "b.yaml:2: an adapter needs a \"path\""},
           {"adapters:\n  - {path: x, scale: much}\n", "\"scale\" is \"much\""},
           {"adapters:\n  - {path: x, weight: 1}\n", "\"weight\""},
           {"adapters:\n  - {path: x}\n  - {path: y/x}\n", "b.yaml:3: there are two"},
           {"adapters:\n  - {path: [x]}\n", "b.yaml:2"},
       }) {
    try {
      read_model_settings(write("b.yaml", yaml));
      ADD_FAILURE() << yaml;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << error.what();
    }
  }
}

TEST_F(ConfigTest, WrongModelSettingsNameFileAndLine) {
  const fs::path file = write("m.yaml", "temperature: 0.5\ntop_p: 7\n");
  try {
    read_model_settings(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              file.string() + ":2: \"top_p\" is \"7\"; it must be a number from 0 to 1");
  }
  EXPECT_THROW(read_model_settings(write("k.yaml", "temprature: 1\n")), Error);
}

}  // namespace
}  // namespace mlxr
