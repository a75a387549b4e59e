// Grammars that hold tool calls to their functions' schemas while they are written, for the formats
// whose calls are JSON. In llguidance's dialect of Lark (core/runtime/constraint).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/runtime/chat/tool_parsers/tool_parser.h"

namespace mlxr {

// How a format spells a call in JSON: {"name": ..., arguments_key: ...}.
struct JsonCall {
  std::string_view before;  // marks, and the bracket of a list
  std::string_view arguments_key = "arguments";
};

// Nothing where the format's calls are not JSON.
std::optional<JsonCall> json_call(ToolFormat format);

// One of OpenAI's tools asks, with "strict", for arguments that fit its schema.
bool asks_for_strict_calls(const nlohmann::ordered_json& tools);

// The text of the token that begins a call, or several; empty where the format has none.
std::string_view call_mark(ToolFormat format);

// What follows call_mark(); empty where something else than calls in JSON may. Arguments of
// functions without "strict" may be any object.
std::string calls_grammar(ToolFormat format, const nlohmann::ordered_json& tools);

// What follows call_opening() of `name` (empty: of any of the tools), up to the end of that call;
// empty where the format's calls are not JSON.
std::string forced_call_grammar(ToolFormat format, const nlohmann::ordered_json& tools,
                                std::string_view name);

}  // namespace mlxr
