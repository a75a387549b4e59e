// Reads the body of POST /v1/responses.
#pragma once

#include <functional>
#include <string>

#include "daemon/server/openai/chat_request.h"

namespace mlxr::openai {

struct ResponseRequest {
  ChatRequest chat;   // the normal form, with the whole conversation
  Json input;         // the items of this request
  Json conversation;  // those of earlier responses, then `input`
  Json shown;         // the fields that an answer repeats
  bool store = true;  // the answer can be asked for again, and gone on from
  bool with_logprobs = false;
};

// The conversation of an earlier response, an array of items. Throws RequestError.
using EarlierItems = std::function<Json(const std::string& id)>;

// Throws RequestError naming the field: also for tools that this server would have to run itself,
// and for everything else that is not served and would change the answer.
ResponseRequest read_response_request(const std::string& body, const EarlierItems& earlier);

// Complaints about the answer's form name the field that the client knows.
void blame_text_format(ResponseRequest& request);

}  // namespace mlxr::openai
