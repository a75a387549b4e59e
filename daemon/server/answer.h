// Sends a running generation to the client in its API's format: as one JSON body, or as a stream.
#pragma once

#include "daemon/server/answer_builder.h"
#include "daemon/server/answer_format.h"
#include "daemon/server/generation.h"
#include "daemon/server/http/exchange.h"
#include "daemon/server/services.h"

namespace mlxr {

struct AnswerOptions {
  bool stream = false;
  int choices_per_prompt = 1;  // a prompt's tokens are counted once
  AnswerRules rules;
};

// Returns when the answer is complete or the client is gone; then nothing runs any more.
// Throws RequestError when generation fails before anything was sent.
Task<void> send_answer(Exchange& exchange, Services& services, Generation& generation,
                       AnswerFormat& format, const AnswerOptions& options);

// "stop" or "length".
std::string finish_name(FinishReason reason);

}  // namespace mlxr
