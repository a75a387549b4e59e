// How answers are written in Ollama's two shapes, as one object or as lines of objects.
#pragma once

#include <chrono>
#include <memory>

#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/server/answer_format.h"

namespace mlxr::ollama {

struct FormatOptions {
  std::string model;  // as the client named it
  std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
  std::chrono::nanoseconds load_time{0};
  bool show_thinking = true;
  std::vector<int32_t> prompt;  // for "context", of generate; empty: without one
  bool with_logprobs = false;
  std::shared_ptr<const Tokenizer> tokenizer = nullptr;  // names the alternatives of logprobs
};

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options);
std::unique_ptr<AnswerFormat> generate_format(FormatOptions options);

// {"error": "..."}
Json error_body(const ApiError& error);

// "2026-11-25T01:02:03.000000004Z"
std::string timestamp(std::chrono::system_clock::time_point time);

// The answer of a request that only loads or unloads.
Json load_body(const std::string& model, bool chat, const std::string& reason);

}  // namespace mlxr::ollama
