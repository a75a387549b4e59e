#include "daemon/server/constraints.h"

#include <utility>

#include "core/base/error.h"
#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

std::shared_ptr<const Constraint> compile_call(const Model& model, std::string grammar) {
  if (grammar.empty()) return nullptr;
  return compile_constraint(
      model,
      RequestedConstraint{{ConstraintSpec::Kind::kLark, std::move(grammar), false}, "tools"});
}

}  // namespace

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

FreeParts free_parts_of_chat(const Model& model, ToolFormat format,
                             const nlohmann::ordered_json& tools, bool constrained) {
  FreeParts parts;
  parts.stop_tokens = model.stop_tokens;
  if (!model.tokenizer || !model.chat_template) return parts;
  const std::string& source = model.chat_template->source();
  const auto reasoning = reasoning_tokens(*model.tokenizer);
  // A vocabulary may have the tokens of a family that the model itself never learnt to use.
  if (reasoning &&
      source.find(model.tokenizer->token_bytes(reasoning->open)) != std::string::npos) {
    parts.reasoning = reasoning;
  }
  if (tools.is_null()) return parts;
  parts.tool_call = model.tokenizer->token_id(call_mark(format)).value_or(-1);
  if (parts.tool_call >= 0 && (constrained || asks_for_strict_calls(tools))) {
    parts.calls = compile_call(model, calls_grammar(format, tools));
  }
  return parts;
}

std::shared_ptr<const Constraint> forced_call_constraint(const Model& model, ToolFormat format,
                                                         const nlohmann::ordered_json& tools,
                                                         const std::string& name) {
  return compile_call(model, forced_call_grammar(format, tools, name));
}

}  // namespace mlxr
