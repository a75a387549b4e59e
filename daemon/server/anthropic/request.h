// Reads the bodies of POST /v1/messages and /v1/messages/count_tokens.
#pragma once

#include <string>

#include "daemon/server/openai/chat_request.h"

namespace mlxr::anthropic {

struct MessagesRequest {
  openai::ChatRequest chat;  // the normal form
  bool show_thinking = true;
};

// Throws RequestError naming the field. `counting`: only what the prompt is made of is required.
MessagesRequest read_messages_request(const std::string& body, bool counting);

}  // namespace mlxr::anthropic
