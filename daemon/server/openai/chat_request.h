// Reads the body of POST /v1/chat/completions.
#pragma once

#include "daemon/server/openai/request_options.h"

namespace mlxr::openai {

struct ChatRequest {
  RequestOptions options;
  Json body;             // as it came; apply_sampling reads it again over a model's defaults
  Json messages;         // as templates want them: content is a string, arguments are objects
  Json tools = nullptr;  // null, or an array
  Json template_variables = Json::object();
  int n_logprobs = -1;
};

// Throws RequestError naming the field.
ChatRequest read_chat_request(const std::string& body);

}  // namespace mlxr::openai
