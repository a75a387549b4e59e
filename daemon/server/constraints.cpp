#include "daemon/server/constraints.h"

#include <utility>

#include "core/base/error.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {

std::shared_ptr<const Constraint> compile_constraint(
    const Model& model, const std::optional<RequestedConstraint>& requested) {
  if (!requested) return nullptr;
  if (!model.constraints) {
    throw bad_field(requested->field,
                    "\"" + requested->field + "\" cannot be used: this model has no tokenizer");
  }
  try {
    return model.constraints->compile(requested->spec);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw bad_field(requested->field, "\"" + requested->field + "\": " + error.what());
  }
}

FreeParts free_parts_of_chat(const Model& model, bool has_tools) {
  FreeParts parts;
  if (!model.tokenizer || !model.chat_template) return parts;
  const std::string& source = model.chat_template->source();
  const auto reasoning = reasoning_tokens(*model.tokenizer);
  // A vocabulary may have the tokens of a family that the model itself never learnt to use.
  if (reasoning &&
      source.find(model.tokenizer->token_bytes(reasoning->open)) != std::string::npos) {
    parts.reasoning = reasoning;
  }
  if (has_tools) parts.tool_call = model.tokenizer->token_id("<tool_call>").value_or(-1);
  return parts;
}

}  // namespace mlxr
