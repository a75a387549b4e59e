// POST /tokenize and /detokenize, in llama-server's shape ("content") and vLLM's ("prompt" or
// "messages").
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/server/openai/chat_request.h"
#include "daemon/server/services.h"

namespace mlxr::native {

struct TokenizeRequest {
  std::string model;
  std::string text;
  std::optional<openai::ChatRequest> chat;  // instead of the text
  bool add_special = false;
  bool parse_special = true;  // "<|im_end|>" is that token, not its characters
  bool with_pieces = false;   // what each token stands for
  bool is_llama_server = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};

// These throw RequestError naming the field.
TokenizeRequest read_tokenize_request(const std::string& body);
DetokenizeRequest read_detokenize_request(const std::string& body);

// These throw Error{kUnsupported} for a model without a tokenizer, and as build_chat_prompt.
std::vector<int32_t> token_ids(Services& services, const ServedModel& model,
                               const TokenizeRequest& request);
Json tokenize(Services& services, const ServedModel& model, const TokenizeRequest& request);
// These throw RequestError for a token that the model does not have.
std::string text_of(const ServedModel& model, const DetokenizeRequest& request);
// {"prompt": text, "content": text}: each server's clients read their own.
Json detokenize(const ServedModel& model, const DetokenizeRequest& request);

}  // namespace mlxr::native
