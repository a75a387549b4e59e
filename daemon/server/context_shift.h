// Whether an answer goes on where it has filled the context window, and what of its prompt stays
// then: the request's word, else the model's, else that of the API's own clients (decision 8).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "daemon/scheduler/context_shift.h"
#include "daemon/scheduler/served_model.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/prompt_builder.h"

namespace mlxr {

// The prompt's `opening`, which is asked for only where it is needed, stays unless the request says
// how many tokens do; a beginning-of-text token always stays. Nothing: the answer ends where the
// window is full.
std::optional<ContextShift> context_shift(const ServedModel& model,
                                          const openai::RequestOptions& options,
                                          const std::function<PromptOpening()>& opening);

// Drops tokens of a prompt that fills the window, as the answer that it goes on from dropped its
// own (Ollama's "context", which such an answer gives in full).
void shift_prompt(std::vector<int32_t>& tokens, const ContextShift& shift, int64_t window);

}  // namespace mlxr
