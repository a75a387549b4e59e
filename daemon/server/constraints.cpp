#include "daemon/server/constraints.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

// `write`: ControlTokens -> the grammar, which may be empty.
template <typename Write>
std::shared_ptr<const Constraint> compile_calls(const Model& model, const Write& write) {
  std::string grammar;
  try {
    grammar = write([&model](std::string_view text) -> std::optional<int32_t> {
      const auto id = model.tokenizer->token_id(text);
      return id && model.tokenizer->is_special(*id) ? id : std::nullopt;
    });
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw bad_field("tools", std::string("\"tools\": ") + error.what());
  } catch (const nlohmann::json::exception&) {
    throw bad_field("tools", "\"tools\": the \"parameters\" of a tool are no JSON schema");
  }
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
  const bool held = constrained || asks_for_strict_calls(tools);
  for (const std::string_view text : call_marks(format)) {
    const auto token = model.tokenizer->token_id(text);
    if (!token) continue;
    parts.call_marks.push_back({*token, nullptr});
    if (!held) continue;
    parts.call_marks.back().calls = compile_calls(model, [&](const ControlTokens& tokens) {
      return calls_grammar(format, tools, text, tokens);
    });
  }
  return parts;
}

std::shared_ptr<const Constraint> unmarked_calls_constraint(const Model& model, ToolFormat format,
                                                            const nlohmann::ordered_json& tools) {
  if (!model.tokenizer || tools.is_null() || !asks_for_strict_calls(tools)) return nullptr;
  const auto marks = call_marks(format);
  const bool has_mark = std::any_of(marks.begin(), marks.end(), [&](std::string_view text) {
    return model.tokenizer->token_id(text).has_value();
  });
  if (has_mark && !begins_without_mark(format)) return nullptr;
  return compile_calls(
      model, [&](const ControlTokens& tokens) { return answer_grammar(format, tools, tokens); });
}

std::shared_ptr<const Constraint> forced_call_constraint(const Model& model, ToolFormat format,
                                                         const nlohmann::ordered_json& tools,
                                                         const std::string& name) {
  return compile_calls(model, [&](const ControlTokens& tokens) {
    return forced_call_grammar(format, tools, name, tokens);
  });
}

}  // namespace mlxr
