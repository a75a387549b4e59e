// Sends a running generation to the client: as one JSON body, or as a stream of events.
#pragma once

#include "daemon/server/generation.h"
#include "daemon/server/http/exchange.h"
#include "daemon/server/openai/answer_format.h"
#include "daemon/server/services.h"

namespace mlxr::openai {

struct AnswerOptions {
  bool stream = false;
  bool include_usage = false;  // in a stream
  int choices_per_prompt = 1;  // a prompt's tokens are counted once
};

// Returns when the answer is complete or the client is gone; then nothing runs any more.
// Throws RequestError when generation fails before anything was sent.
Task<void> send_answer(Exchange& exchange, Services& services, Generation& generation,
                       AnswerFormat& format, AnswerOptions options);

}  // namespace mlxr::openai
