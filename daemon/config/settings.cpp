#include "daemon/config/settings.h"

#include <algorithm>
#include <cctype>
#include <limits>

#include "daemon/config/paths.h"
#include "daemon/config/value_text.h"

namespace mlxr {
namespace {

using Values = std::vector<std::string>;
constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

Setting integer(std::string key, std::string fallback, int64_t lowest, int64_t highest,
                int32_t ServerConfig::*member, std::string help) {
  return {std::move(key), std::move(fallback), std::move(help), false,
          [=](ServerConfig& config, const Values& values) {
            config.*member = static_cast<int32_t>(parse_integer(values.at(0), lowest, highest));
          }};
}

Setting bytes(std::string key, std::string fallback, int64_t lowest, int64_t ServerConfig::*member,
              std::string help) {
  return {std::move(key), std::move(fallback), std::move(help), false,
          [=](ServerConfig& config, const Values& values) {
            const int64_t value = parse_bytes(values.at(0));
            if (value < lowest) {
              throw BadValue("a size of at least " + std::to_string(lowest) + " bytes");
            }
            config.*member = value;
          }};
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Setting host_setting() {
  return {"host", "127.0.0.1",
          "Address that HTTP listens on: 127.0.0.1, ::1 or localhost. Only loopback addresses are "
          "accepted, because there are no API keys yet.",
          false, [](ServerConfig& config, const Values& values) {
            if (!is_loopback(values.at(0))) {
              throw BadValue(
                  "a loopback address (127.0.0.1, ::1 or localhost): any other would let the "
                  "network in without API keys");
            }
            config.host = values.at(0) == "localhost" ? "127.0.0.1" : values.at(0);
          }};
}

Setting socket_setting(const std::filesystem::path& home) {
  return {"socket", "$MLXR_HOME/mlxr.sock",
          "Unix socket that the mlx command talks to; only its owner can open it (mode 0600).",
          false, [home](ServerConfig& config, const Values& values) {
            if (values.at(0).empty()) {
              throw BadValue("a path");
            }
            config.socket = expand_path(values.at(0), home);
          }};
}

Setting folders_setting(const std::filesystem::path& home) {
  return {"model_folders", "$MLXR_HOME/models",
          "Folders searched for models: .gguf files and folders with config.json and safetensors.",
          true, [home](ServerConfig& config, const Values& values) {
            config.model_folders.clear();
            for (const std::string& value : values) {
              if (value.empty()) {
                throw BadValue("a list of folders");
              }
              config.model_folders.push_back(expand_path(value, home));
            }
          }};
}

Setting kv_type_setting() {
  return {"kv_type", "f16",
          "Number format of the KV cache: f32, f16, bf16, q8_0, q4_0 or fp8 (E4M3).", false,
          [](ServerConfig& config, const Values& values) {
            config.kv_type = parse_kv_type(values.at(0));
          }};
}

Setting repack_setting() {
  return {"repack", "true",
          "Interleave quantised weights in memory at load, for speed: true or false. False shares "
          "the file's pages instead, for machines short of memory.",
          false, [](ServerConfig& config, const Values& values) {
            config.repack = parse_choice(values.at(0), {"true", "false"}) == "true";
          }};
}

Setting text(std::string key, std::string fallback, std::string ServerConfig::*member,
             std::string help) {
  return {std::move(key), std::move(fallback), std::move(help), false,
          [=](ServerConfig& config, const Values& values) { config.*member = values.at(0); }};
}

Setting log_level_setting() {
  return {
      "log_level", "info", "Least severe message that is logged: trace, debug, info, warn, error.",
      false, [](ServerConfig& config, const Values& values) {
        config.log_level = parse_choice(values.at(0), {"trace", "debug", "info", "warn", "error"});
      }};
}

}  // namespace

std::string Setting::environment_name() const {
  std::string name = "MLXR_" + key;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

std::string Setting::flag_name() const {
  std::string name = "--" + key;
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::vector<Setting> server_settings(const std::filesystem::path& home) {
  return {
      host_setting(),
      integer("port", "11435", 0, 65535, &ServerConfig::port,
              "TCP port of HTTP; 0 takes a free one (see $MLXR_HOME/daemon.json)."),
      socket_setting(home),
      integer("threads", "0", 0, 1024, &ServerConfig::threads,
              "Threads that compute; 0 is one for each physical core that may be used."),
      folders_setting(home),
      text("default_model", "", &ServerConfig::default_model,
           "Model that answers requests which name none: a name or a path. Empty: the first "
           "--model, "
           "else the built-in mlxr-demo."),
      integer("context_length", "0", 0, kMaxInt, &ServerConfig::context_length,
              "Tokens that one sequence may hold; 0 is what the model was trained for."),
      bytes("kv_bytes", "0", 0, &ServerConfig::kv_bytes,
            "Memory for the KV cache of each loaded model, such as 2GiB; 0 is four full contexts."),
      kv_type_setting(),
      repack_setting(),
      integer("max_batch_tokens", "512", 1, 65536, &ServerConfig::max_batch_tokens,
              "Tokens of one step, over all requests, running answers and prompt parts together."),
      integer("max_sequences", "64", 1, 4096, &ServerConfig::max_sequences,
              "Answers that one model computes at the same time; more wait in its queue."),
      integer("max_queue", "1024", 1, 1000000, &ServerConfig::max_queue,
              "Requests that may wait for one model; more are refused with status 429."),
      bytes("max_body_bytes", "32MiB", 1024, &ServerConfig::max_body_bytes,
            "Largest request body; a larger one is refused with status 413."),
      integer("shutdown_timeout_s", "30", 0, 86400, &ServerConfig::shutdown_timeout_s,
              "Seconds that running answers get to finish after SIGTERM; then they are cancelled."),
      log_level_setting(),
  };
}

ServerConfig default_config(const std::vector<Setting>& settings) {
  ServerConfig config;
  for (const Setting& setting : settings) {
    setting.apply(config, {setting.fallback});
  }
  return config;
}

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(':', begin), text.size());
    if (end > begin) {
      parts.push_back(text.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  return parts;
}

}  // namespace mlxr
