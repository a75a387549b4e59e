// How answers are written in the shape of /v1/responses: items, one after another, and typed events
// that count up.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/server/answer_format.h"

namespace mlxr::openai {

struct ResponseOptions {
  std::string id;
  std::string model;
  Json shown;  // the request's fields that an answer repeats
  bool with_logprobs = false;
  std::shared_ptr<const Tokenizer> tokenizer;  // names the alternatives of logprobs
  // Called with the complete response before its end is sent, so that a client which has read it
  // can go on from it.
  std::function<void(const Json& response)> keep;
};

std::unique_ptr<AnswerFormat> response_format(ResponseOptions options);

}  // namespace mlxr::openai
