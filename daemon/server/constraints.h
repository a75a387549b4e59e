// What a request asks of its answer's form, whichever API it came by.
#pragma once

#include <memory>
#include <optional>
#include <string>

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
// knows of any, and calls, where the request has tools.
FreeParts free_parts_of_chat(const Model& model, bool has_tools);

}  // namespace mlxr
