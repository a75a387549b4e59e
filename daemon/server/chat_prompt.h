// From a chat request to its prompt, and to the rules by which its answer is read.
#pragma once

#include <optional>

#include "daemon/server/answer_builder.h"
#include "daemon/server/context_shift.h"
#include "daemon/server/generation.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/services.h"

namespace mlxr {

struct ChatPrompt {
  std::vector<int32_t> tokens;
  AnswerRules rules;
  bool show_special = false;  // the answer's marks are control tokens, which the parser must see
  std::optional<ContextShift> shift;
};

// Throws RequestError where a forced call cannot be begun in this model's format, and as
// PromptBuilder::chat.
ChatPrompt build_chat_prompt(Services& services, const Model& model,
                             const openai::ChatRequest& request);

// The prompt of a chat that is to be answered, and how its answer outgrows the window. Where the
// request or the model asks for truncation, the oldest turns of a conversation that leaves no room
// for an answer are dropped, which the exchange's headers and record say. Throws
// Error{kContextOverflow} when what is left does not fit.
ChatPrompt fitting_chat_prompt(Services& services, const ServedModel& model,
                               const openai::ChatRequest& request, Exchange& exchange);

// The choices of a chat request, queued. Throws as the scheduler.
void submit_chat(Generation& generation, const openai::ChatRequest& request,
                 const ChatPrompt& prompt);

// The model's default sampling with what the request says over it. Throws RequestError.
SamplingParams sampling_for(const ServedModel& model, const Json& body);

// What chats with this model can do: its template's calls and reasoning.
AnswerSyntax answer_syntax(const Model& model);

}  // namespace mlxr
