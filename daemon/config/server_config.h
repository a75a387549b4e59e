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
  std::filesystem::path socket;
  int32_t threads = 0;
  std::vector<std::filesystem::path> model_folders;
  std::string default_model;
  int32_t context_length = 0;
  int64_t kv_bytes = 0;
  KvType kv_type = KvType::kF16;
  bool repack = true;
  int32_t max_batch_tokens = 0;
  int32_t max_sequences = 0;
  int32_t max_queue = 0;
  int64_t max_body_bytes = 0;
  int32_t shutdown_timeout_s = 0;
  std::string log_level;

  std::set<std::string> given;  // keys that a file, the environment or a flag set
};

}  // namespace mlxr
