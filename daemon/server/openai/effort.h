// How hard a model is asked to think, in the words of the APIs that have a field for it.
#pragma once

#include "daemon/server/json_body.h"

namespace mlxr::openai {

// OpenAI's "reasoning_effort" (`path`: "reasoning.effort" in a response's request), told to the
// chat template; "none" turns its thinking off. Throws RequestError for another word.
void apply_effort(const std::string& effort, const std::string& path, Json& template_variables);

// How strongly templates are asked, which know "low", "medium" and "high".
std::string template_effort(const std::string& effort);

// The words of "reasoning_effort", for the description of the API.
Json effort_schema();

}  // namespace mlxr::openai
