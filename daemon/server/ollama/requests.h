// Reads the bodies of POST /api/chat and /api/generate.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "daemon/server/openai/chat_request.h"

namespace mlxr::ollama {

struct ChatRequest {
  openai::ChatRequest chat;  // the normal form; without messages where the model is only loaded
  std::optional<std::chrono::milliseconds> keep_alive;
  bool loads_only = false;    // no message and no prompt
  std::optional<bool> think;  // what the request says; levels count as true
};

struct GenerateRequest {
  ChatRequest base;
  std::string prompt, suffix;
  std::vector<int32_t> context;  // tokens of the conversation so far
  bool raw = false;              // no template
};

// Throw RequestError naming the field.
ChatRequest read_chat_request(const std::string& body);
GenerateRequest read_generate_request(const std::string& body);

// The value of "model" or, as older clients send it, "name". Throws RequestError when missing.
std::string read_model(const Fields& fields);

}  // namespace mlxr::ollama
