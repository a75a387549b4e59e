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
  std::string suffix;  // what comes after the answer; empty: nothing said
  bool echo = false;   // answers begin with their prompts
  int best_of = 1;     // answers to a prompt, of which the likeliest n are shown
  int n_logprobs = -1;
};

// These throw RequestError naming the field.
CompletionRequest to_completion_request(Json body);
CompletionRequest read_completion_request(const std::string& body);

// Text, texts, tokens or arrays of tokens of the field `name`, in one list. Throws RequestError
// naming it.
std::vector<PromptInput> read_prompts(const Fields& fields, const std::string& name);

// Token ids of `field`. Throws RequestError naming it.
std::vector<int32_t> read_token_ids(const Json& array, const std::string& field);

}  // namespace mlxr::openai
