// Reads the body of POST /v1/completions.
#pragma once

#include <variant>

#include "daemon/server/openai/request_options.h"

namespace mlxr::openai {

// Text, or token ids that are used as they are.
using PromptInput = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  RequestOptions options;
  Json body;
  std::vector<PromptInput> prompts;
  int n_logprobs = -1;
};

// Throws RequestError naming the field.
CompletionRequest read_completion_request(const std::string& body);

}  // namespace mlxr::openai
