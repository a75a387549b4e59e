// Whether an answer goes on where it has filled the context window, and what of its prompt stays
// then: the request's word, else the model's, else that of the API's own clients (decision 8).
#pragma once

#include <functional>
#include <optional>

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

}  // namespace mlxr
