// What the daemon is told at start: the settings of configs/server.yaml after files, environment
// and flags were applied. Plain data; settings.h says how it is filled.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "core/runtime/engine.h"

namespace mlxr {

struct ServerConfig {
  std::string host;
  int32_t port = 0;
  int32_t grpc_port = 0;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> allowed_origins;
  std::filesystem::path tls_cert, tls_key;  // empty: no TLS
  bool require_api_key = false;
  std::filesystem::path socket;
  int32_t threads = 0;
  std::vector<std::filesystem::path> model_folders;
  std::string default_model;
  int32_t context_length = 0;
  int64_t memory_bytes = 0;
  int32_t max_loaded_models = 0;
  int32_t keep_alive_s = -1;
  int32_t load_timeout_s = 0;
  int64_t kv_bytes = 0;
  KvType kv_type = KvType::kF16;
  bool kv_disk = true;
  std::filesystem::path kv_disk_folder;
  int64_t kv_disk_bytes = 0;
  bool repack = true;
  int32_t max_batch_tokens = 0;
  int32_t target_latency_ms = 0;
  int32_t max_sequences = 0;
  int32_t max_queue = 0;
  int32_t requests_per_minute = 0;
  int32_t tokens_per_minute = 0;
  int32_t concurrent_requests = 0;
  int64_t max_body_bytes = 0;
  int64_t response_store_bytes = 0;
  int32_t request_timeout_s = 0;
  int32_t shutdown_timeout_s = 0;
  int32_t trace_events = 0;
  std::string log_level;

  std::set<std::string> given;  // keys that a file, the environment or a flag set
};

}  // namespace mlxr
