// How answers are written as messages of a stream: start, deltas, ends, usage.
#pragma once

#include <memory>

#include "core/runtime/tokenizer/tokenizer.h"
#include "daemon/server/answer_format.h"
#include "daemon/server/grpc/call.h"

namespace mlxr::rpc {

// `tokenizer` gives the bytes of the alternatives of logprobs. The call ends with the error of an
// answer that breaks.
struct StreamOptions {
  std::string id, model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::function<void(const ApiError&)> fail;
};

std::unique_ptr<AnswerFormat> chat_stream(StreamOptions options);
std::unique_ptr<AnswerFormat> text_stream(StreamOptions options);

}  // namespace mlxr::rpc
