// What a request asks of its answer's form, whichever API it came by.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/runtime/chat/tool_parsers/tool_parser.h"
#include "core/runtime/constraint/answer_constraint.h"
#include "core/runtime/model.h"

namespace mlxr {

struct RequestedConstraint {
  ConstraintSpec spec;
  std::string field;  // of the request: "response_format.json_schema.schema"
};

// Compiles; null for none. What is wrong with the grammar is a RequestError that names the field.
// Takes milliseconds, the first time for a model up to a second.
std::shared_ptr<const Constraint> compile_constraint(
    const Model& model, const std::optional<RequestedConstraint>& requested);

// What may stand beside the answer in a chat with this model: its reasoning, where its template
// knows of any, and calls, where the request has `tools` (else null). Calls that begin with a token
// are held to the schemas of tools that are "strict", and to JSON where the answer itself is
// `constrained`. Throws as compile_constraint.
FreeParts free_parts_of_chat(const Model& model, ToolFormat format,
                             const nlohmann::ordered_json& tools, bool constrained);

// On a whole answer that nothing else constrains: holds the calls of "strict" tools that no token
// begins. Null where there are none. Throws as compile_constraint.
std::shared_ptr<const Constraint> unmarked_calls_constraint(const Model& model, ToolFormat format,
                                                            const nlohmann::ordered_json& tools);

// On the rest of a call of `name` (empty: of any tool) that the prompt has begun; null where the
// format has no grammar. Throws as compile_constraint.
std::shared_ptr<const Constraint> forced_call_constraint(const Model& model, ToolFormat format,
                                                         const nlohmann::ordered_json& tools,
                                                         const std::string& name);

}  // namespace mlxr
