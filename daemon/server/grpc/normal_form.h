// From request messages to the normal form that all APIs share: a chat or a text completion as
// OpenAI's body has it, which is checked there.
#pragma once

#include <mlxr/v1/inference.pb.h>

#include "daemon/server/embedding.h"
#include "daemon/server/json_body.h"
#include "daemon/server/native/tokenize.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"

namespace mlxr::rpc {

// These throw RequestError naming the field.
openai::ChatRequest to_chat_request(const v1::ChatRequest& message);
openai::CompletionRequest to_completion_request(const v1::GenerateRequest& message);
EmbedRequest to_embed_request(const v1::EmbedRequest& message);
native::TokenizeRequest to_tokenize_request(const v1::TokenizeRequest& message);

}  // namespace mlxr::rpc
