// What a created model (daemon/registry/created_models.h) says over the weights that it uses: how
// it is made, and how it reaches the requests for it.
#pragma once

#include <string>

#include "daemon/registry/created_models.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/services.h"

namespace mlxr {

enum class CreatedMessages { kInserted, kLeftOut };

// The request as `model` wants it: its system prompt and messages at the beginning, its parameters
// where the request says nothing. Unchanged for models that were not created.
openai::ChatRequest with_created(const Services& services, const std::string& model,
                                 openai::ChatRequest request,
                                 CreatedMessages messages = CreatedMessages::kInserted);
openai::CompletionRequest with_created(const Services& services, const std::string& model,
                                       openai::CompletionRequest request);

// What is said at load: the template, the adapters and the context length.
ModelSettings with_created(ModelSettings settings, const CreatedModel& model);

// Keeps the model, in place of a created one of its name. Throws RequestError where the name is a
// model file's, and Error as CreatedModels::put.
void keep_created(Services& services, const CreatedModel& model);

// Forgets the model and removes what was uploaded for it alone. Throws Error{kNotFound}, and
// RequestError for a model file: that belongs to the user.
void erase_created(Services& services, const std::string& asked);

}  // namespace mlxr
