// Reads the fields that constrain an answer: OpenAI's response_format, and what llama-server, vLLM
// and SGLang call json_schema, grammar, regex, ebnf, guided_* and structured_outputs.
#pragma once

#include <optional>

#include "daemon/server/constraints.h"
#include "daemon/server/json_body.h"

namespace mlxr::openai {

// Nothing when the request leaves the answer free. Throws RequestError naming the field; more than
// one constraint is an error.
std::optional<RequestedConstraint> read_constraint(const Fields& fields);
// What read_constraint reads.
Json constraint_schema();

}  // namespace mlxr::openai
