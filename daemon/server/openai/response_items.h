// The items that /v1/responses speaks in (messages, calls, results, reasoning), and the messages of
// a chat that they come to.
#pragma once

#include <string>

#include "daemon/server/json_body.h"

namespace mlxr::openai {

// The request's "input", a text or an array of items, as an array of checked items in one shape:
// each with a type, an id, and content in parts. Throws RequestError naming the field.
Json read_input_items(const Json& input);

// Messages for to_chat_request: what the model said in one turn (reasoning, text, calls) becomes
// one message. `instructions` is a system message before all others; empty: none.
Json messages_of_items(const std::string& instructions, const Json& items);

}  // namespace mlxr::openai
