// How answers are written in Anthropic's shape: content blocks, one after another.
#pragma once

#include <memory>

#include "daemon/server/answer_format.h"

namespace mlxr::anthropic {

struct FormatOptions {
  std::string model;
  int64_t prompt_tokens = 0;  // known before the answer begins
  bool show_thinking = true;
  std::string request_id;  // of errors in the stream
};

std::unique_ptr<AnswerFormat> message_format(FormatOptions options);

// {"type": "error", "error": {"type", "message"}, "request_id"}
Json error_body(const ApiError& error, const std::string& request_id);

}  // namespace mlxr::anthropic
