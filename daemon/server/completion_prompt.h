// From a text completion to its prompts, and to the choices that are queued for it.
#pragma once

#include "daemon/server/generation.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/services.h"

namespace mlxr {

// The choices of every prompt, queued. Throws RequestError for a prompt that this model cannot
// begin with, and as the scheduler.
void submit_completion(Services& services, Generation& generation,
                       const openai::CompletionRequest& request);

}  // namespace mlxr
