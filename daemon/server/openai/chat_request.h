// Reads the body of POST /v1/chat/completions.
#pragma once

#include "daemon/server/openai/request_options.h"
#include "daemon/server/prompt_end.h"

namespace mlxr::openai {

struct ChatRequest {
  RequestOptions options;
  Json body;             // as it came; apply_sampling reads it again over a model's defaults
  Json messages;         // as templates want them: content is a string, arguments are objects
  Json tools = nullptr;  // null, or an array
  Json template_variables = Json::object();
  PromptEnd end = PromptEnd::kNewTurn;
  std::optional<std::string>
      forced_call;  // a function that must be called; empty: any of the tools
  bool parallel_calls = true;
  std::optional<bool> truncate;  // drop the oldest turns of what is too long; nothing: the model's
  int n_logprobs = -1;
};

// Throws RequestError naming the field. Other APIs translate their bodies into OpenAI's shape, and
// have them checked here: this is the normal form of a chat.
ChatRequest to_chat_request(Json body);
ChatRequest read_chat_request(const std::string& body);

}  // namespace mlxr::openai
