// Grammars that hold tool calls to their functions' schemas while they are written. In llguidance's
// dialect of Lark (core/runtime/constraint).
//
// Where a token begins a format's calls, what follows that token is held (calls_grammar). Where it
// is text that begins them, or the answer itself does, the whole answer has a grammar, in which all
// text that is no call is free (answer_grammar); so it is for Llama's bare calls and for harmony.
//
// Not held: Command-R+ ("Action: ```json"), which calls a function "directly_answer" of its own
// where it wants to answer, but for forced calls; Llama's "<|python_tag|>" after other text, which
// is no call. In the formats that are not JSON (Gemma, Python, Qwen3-Coder, GLM) functions whose
// names are not plain words cannot be called.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/chat/tool_parsers/grammar_rules.h"
#include "core/runtime/chat/tool_parsers/tool_parser.h"

namespace mlxr {

// How a format spells a call in JSON: {"name": ..., arguments_key: ...}.
struct JsonCall {
  std::string_view before;  // of a forced call: marks, and the bracket of a list
  std::string_view arguments_key = "arguments";
  std::string_view name_key = "name";
  std::string_view first_member = "";  // of a forced call, before the name
};

// Nothing where the format's calls are not JSON.
std::optional<JsonCall> json_call(ToolFormat format);

// One of OpenAI's tools asks, with "strict", for arguments that fit its schema.
bool asks_for_strict_calls(const nlohmann::ordered_json& tools);

// The texts that begin a call, or several. Nothing where the answer itself does.
std::vector<std::string_view> call_marks(ToolFormat format);

// The functions below throw Error{kInvalidArgument} for a schema that cannot be held. Arguments of
// functions without "strict" may be any object.

// What follows one of call_marks(); empty where it cannot be held.
std::string calls_grammar(ToolFormat format, const nlohmann::ordered_json& tools,
                          std::string_view mark, const ControlTokens& tokens);

// A whole answer, where call_marks() are not tokens of the vocabulary or none is needed; empty
// where that cannot be held.
std::string answer_grammar(ToolFormat format, const nlohmann::ordered_json& tools,
                           const ControlTokens& tokens);

// Calls may begin without one of call_marks().
bool begins_without_mark(ToolFormat format);

// What follows call_opening() of `name` (empty: of any of the tools), up to the end of the calls;
// empty where the format has no grammar.
std::string forced_call_grammar(ToolFormat format, const nlohmann::ordered_json& tools,
                                std::string_view name, const ControlTokens& tokens);

}  // namespace mlxr
