#include "daemon/config/settings.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "daemon/config/paths.h"
#include "daemon/config/value_text.h"

namespace mlxr {
namespace {

using Values = std::vector<std::string>;

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

Setting boolean(std::string key, std::string fallback, bool ServerConfig::*member,
                std::string help) {
  return {std::move(key), std::move(fallback), std::move(help), false,
          [=](ServerConfig& config, const Values& values) {
            config.*member = parse_boolean(values.at(0));
          }};
}

bool is_ip_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> scratch{};
  return ::inet_pton(AF_INET, text.c_str(), scratch.data()) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), scratch.data()) == 1;
}

Setting host_setting() {
  return {"host", "127.0.0.1",
          "Address that HTTP listens on. One that is not of this machine alone (0.0.0.0 is every "
          "network) needs an API key: see mlx key create.",
          false, [](ServerConfig& config, const Values& values) {
            const std::string host = values.at(0) == "localhost" ? "127.0.0.1" : values.at(0);
            if (!is_ip_address(host)) {
              throw BadValue("an IP address of this machine, such as 127.0.0.1 or 0.0.0.0");
            }
            config.host = host;
          }};
}

// Names without ports; an empty one (the default as text) is none.
Setting allowed_hosts_setting() {
  return {
      "allowed_hosts", "",
      "Names, beside localhost and IP addresses, under which clients may reach this server, such "
      "as box.example; the Host header of a request must be one of them.",
      true, [](ServerConfig& config, const Values& values) {
        config.allowed_hosts.clear();
        for (const std::string& value : values) {
          if (value.find_first_of("/: *") != std::string::npos) {
            throw BadValue("a list of host names, without scheme, port or wildcard");
          }
          if (!value.empty()) {
            config.allowed_hosts.push_back(value);
          }
        }
      }};
}

// As browsers write them: a scheme, a host, and a port where it is not the scheme's own.
Setting allowed_origins_setting() {
  return {
      "allowed_origins",
      "",
      "Web sites whose pages may use this server from a browser, such as https://app.example; * "
      "is every one. This machine's own (http://localhost:3000) always may.",
      true,
      [](ServerConfig& config, const Values& values) {
        config.allowed_origins.clear();
        for (const std::string& value : values) {
          const size_t scheme = value.find("://");
          const bool is_origin = scheme != std::string::npos && scheme > 0 &&
                                 scheme + 3 < value.size() &&
                                 value.find_first_of("/* ", scheme + 3) == std::string::npos;
          if (!value.empty() && value != "*" && !is_origin) {
            throw BadValue(
                "a list of origins such as https://app.example:8443, without a path, or *");
          }
          if (!value.empty()) {
            config.allowed_origins.push_back(value);
          }
        }
      },
      ','};
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

Setting file_setting(std::string key, std::filesystem::path ServerConfig::*member,
                     const std::filesystem::path& home, std::string help) {
  return {std::move(key), "", std::move(help), false,
          [=](ServerConfig& config, const Values& values) {
            config.*member =
                values.at(0).empty() ? std::filesystem::path() : expand_path(values.at(0), home);
          }};
}

Setting kv_type_setting() {
  return {"kv_type", "f16",
          "Number format of the KV cache: f32, f16, bf16, q8_0, q4_0 or fp8 (E4M3).", false,
          [](ServerConfig& config, const Values& values) {
            config.kv_type = parse_kv_type(values.at(0));
          }};
}

Setting kv_disk_folder_setting(const std::filesystem::path& home) {
  return {"kv_disk_folder", "$MLXR_HOME/kv",
          "Folder for KV blocks that outlive the daemon; only its owner can read them.", false,
          [home](ServerConfig& config, const Values& values) {
            if (values.at(0).empty()) {
              throw BadValue("a path");
            }
            config.kv_disk_folder = expand_path(values.at(0), home);
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

bool is_loopback_address(const std::string& host) {
  return host == "::1" || host.starts_with("127.");
}

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
      integer(
          "grpc_port", "0", -1, 65535, &ServerConfig::grpc_port,
          "TCP port of gRPC; 0 is none (its Unix socket, beside that of HTTP, is always there), "
          "-1 takes a free one (see $MLXR_HOME/daemon.json)."),
      allowed_hosts_setting(),
      allowed_origins_setting(),
      file_setting("tls_cert", &ServerConfig::tls_cert, home,
                   "PEM file of a certificate, and of those between it and its root; with tls_key, "
                   "HTTP and gRPC on TCP are encrypted (TLS 1.2 and 1.3)."),
      file_setting("tls_key", &ServerConfig::tls_key, home,
                   "PEM file of the certificate's private key, without a passphrase; nobody else "
                   "may be able to read it."),
      boolean("require_api_key", "false", &ServerConfig::require_api_key,
              "Answer nobody on TCP without an API key, not even this machine's own programs: true "
              "or false. Off loopback it is always so."),
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
      bytes(
          "memory_bytes", "0", 0, &ServerConfig::memory_bytes,
          "Memory for all loaded models together, such as 12GiB: weights, KV caches, activations. "
          "Idle models make room for one that is asked for, those used longest ago first; where "
          "all "
          "have work, it waits for one to end. What does not fit all the same is refused with "
          "status 503. 0 is four fifths of the machine's "
          "memory, or of what its control group allows."),
      integer("max_loaded_models", "0", 0, kMaxInt, &ServerConfig::max_loaded_models,
              "Models that may be in memory together; 0 is as many as fit."),
      integer("keep_alive_s", "-1", -1, kMaxInt, &ServerConfig::keep_alive_s,
              "Seconds that an unused model stays in memory, where no request said otherwise "
              "(Ollama's keep_alive); -1 is until its memory is needed."),
      integer(
          "load_timeout_s", "600", 1, 604800, &ServerConfig::load_timeout_s,
          "Seconds that a request waits for its model to be loaded, and for room for it; then it "
          "fails with status 503, and a load that has begun goes on."),
      bytes("kv_bytes", "0", 0, &ServerConfig::kv_bytes,
            "Memory for the KV cache of each loaded model, such as 2GiB; 0 is four full contexts, "
            "but "
            "at most a quarter of memory_bytes."),
      kv_type_setting(),
      boolean("kv_disk", "true", &ServerConfig::kv_disk,
              "Keep KV blocks on disk, so that a prompt that was read once is not computed again "
              "after a restart, or when memory was needed: true or false."),
      kv_disk_folder_setting(home),
      bytes("kv_disk_bytes", "2GiB", 0, &ServerConfig::kv_disk_bytes,
            "Disk space for the KV blocks of one model; those used longest ago make room."),
      boolean("repack", "true", &ServerConfig::repack,
              "Interleave weights in memory at load, for speed: true or false. False "
              "shares the file's pages instead, for machines short of memory."),
      integer("max_batch_tokens", "512", 1, 65536, &ServerConfig::max_batch_tokens,
              "Tokens of one step, over all requests, running answers and prompt parts together."),
      integer("target_latency_ms", "80", 1, 60000, &ServerConfig::target_latency_ms,
              "Time of a step while answers run: prompts are read in parts that keep to it."),
      integer("max_sequences", "64", 1, 4096, &ServerConfig::max_sequences,
              "Answers that one model computes at the same time; more wait in its queue."),
      integer("max_queue", "1024", 1, 1000000, &ServerConfig::max_queue,
              "Requests that may wait for one model; more are refused with status 429."),
      integer("requests_per_minute", "0", 0, kMaxInt, &ServerConfig::requests_per_minute,
              "Requests to models that one API key may make in a minute; more are refused with "
              "status 429. 0 is no limit."),
      integer("tokens_per_minute", "0", 0, kMaxInt, &ServerConfig::tokens_per_minute,
              "Tokens, read and written, that one API key may use in a minute; 0 is no limit."),
      integer("concurrent_requests", "0", 0, kMaxInt, &ServerConfig::concurrent_requests,
              "Requests to models that one API key may have at the same time; 0 is no limit."),
      bytes("max_body_bytes", "32MiB", 1024, &ServerConfig::max_body_bytes,
            "Largest request body; a larger one is refused with status 413."),
      bytes("response_store_bytes", "64MiB", 0, &ServerConfig::response_store_bytes,
            "Memory for the answers of /v1/responses that clients may go on from; the least "
            "recently used ones go first. 0 stores none."),
      integer("request_timeout_s", "0", 0, 604800, &ServerConfig::request_timeout_s,
              "Seconds that one request may wait and run; then it fails with status 504. 0 is no "
              "limit. Requests may ask for less."),
      integer("shutdown_timeout_s", "30", 0, 86400, &ServerConfig::shutdown_timeout_s,
              "Seconds that running answers get to finish after SIGTERM; then they are cancelled."),
      integer("trace_events", "8192", 0, 10'000'000, &ServerConfig::trace_events,
              "Latest events of requests and steps that are kept for GET /mlxr/v1/trace; 0 is "
              "none."),
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

std::vector<std::string> split_list(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) {
      parts.push_back(text.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  return parts;
}

}  // namespace mlxr
