// What every API writes of a running answer, and the interface through which it does so: its own
// shape of a stream's pieces and of a whole body.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/chat/chat_event.h"
#include "daemon/scheduler/generate_request.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/json_body.h"

namespace mlxr {

struct ToolCall {
  std::string id, name;
  std::string arguments;  // a JSON object as text
};

struct AnswerPart {
  ChatEvent event;
  std::string call_id;  // of a kCall
  // The tokens of a text or of reasoning, where they were asked for and the rules place them.
  std::vector<GeneratedLogprob> logprobs;
};

// What one step of one choice brought.
struct AnswerPiece {
  int choice = 0;
  std::vector<AnswerPart> parts;
  std::vector<GeneratedLogprob> logprobs;         // of all tokens
  std::vector<GeneratedLogprob> prompt_logprobs;  // in the first piece, where they were asked for
};

struct AnswerEnd {
  FinishReason reason = FinishReason::kStop;
  int calls = 0;
  std::string stop;  // the stop string that ended it
  int64_t reasoning_tokens = 0;
  GenerateUsage usage;
  std::vector<int32_t> tokens;  // all that were generated, but for a stop token
};

// One choice, complete.
struct Answer {
  std::string text, reasoning;
  std::vector<ToolCall> calls;
  std::vector<GeneratedLogprob> logprobs;  // of all tokens, where the rules place none
  std::vector<GeneratedLogprob> text_logprobs, reasoning_logprobs, prompt_logprobs;
  AnswerEnd end;
};

struct AnswerTotals {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
};

// Everything that returns text returns the bytes that go on the wire; empty where nothing does.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  virtual std::string content_type() const = 0;
  // Keeps an idle connection alive.
  virtual std::string ping() const = 0;
  // Sent before anything is generated, so that the client sees the answer begin.
  virtual std::string opening(int choices) = 0;
  virtual std::string piece(const AnswerPiece& piece) = 0;
  virtual std::string finish(int choice, const AnswerEnd& end) = 0;
  virtual std::string closing(const AnswerTotals& totals) = 0;
  virtual std::string failure(const ApiError& error) const = 0;

  virtual Json whole(const std::vector<Answer>& answers, const AnswerTotals& totals) = 0;
};

}  // namespace mlxr
