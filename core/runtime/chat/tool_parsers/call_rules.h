// The calls of a request's tools as rules of a grammar, one function a kind of format, for
// call_grammar.cpp.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/chat/tool_parsers/call_grammar.h"
#include "core/runtime/chat/tool_parsers/grammar_rules.h"

namespace mlxr {

// One way to write calls: intro, a call, more calls each after `separator`, end. A call: begin, one
// of the tools (name, joint, arguments), finish. All are expressions; call_opening() writes what
// comes before the name, or before the arguments.
struct CallRules {
  struct One {
    std::string name, joint, arguments;
  };
  std::string intro, begin;
  std::vector<One> tools;
  std::string finish;
  std::string separator;  // empty: the calls end after the first
  std::string end;
};

// An expression for each of them.
std::string all_calls(GrammarRules& rules, const CallRules& parts);
std::string rest_of_first_call(GrammarRules& rules, const CallRules& parts, bool name_is_known);
std::string one_call(GrammarRules& rules, const CallRules& parts);

std::string tool_name(const nlohmann::ordered_json& tool);
bool is_strict_tool(const nlohmann::ordered_json& tool);
// An object, with what "x-guidance" it needs.
nlohmann::ordered_json arguments_schema(const nlohmann::ordered_json& tool);
// Letters, digits, '_', '-' and '.' alone.
bool is_plain_name(std::string_view name);

CallRules json_call_rules(GrammarRules& rules, ToolFormat format,
                          const nlohmann::ordered_json& tools);
// NAME[ARGS]{...}
CallRules mistral_call_rules(GrammarRules& rules, const nlohmann::ordered_json& tools);
// Both spellings of a single call, after its mark.
std::string deepseek_call(GrammarRules& rules, const nlohmann::ordered_json& tools);
// Those of FunctionGemma and Gemma 4.
CallRules gemma_call_rules(GrammarRules& rules, ToolFormat format,
                           const nlohmann::ordered_json& tools);
// Llama's and Gemma 3's.
CallRules python_call_rules(GrammarRules& rules, ToolFormat format,
                            const nlohmann::ordered_json& tools);
// Qwen3-Coder's and GLM's.
CallRules tagged_call_rules(GrammarRules& rules, ToolFormat format,
                            const nlohmann::ordered_json& tools);

// Whole answers whose calls begin without a mark.
std::string llama_answer(GrammarRules& rules, const nlohmann::ordered_json& tools);
std::string pythonic_answer(GrammarRules& rules, const nlohmann::ordered_json& tools);
// Empty where the vocabulary lacks harmony's tokens.
std::string harmony_answer(GrammarRules& rules, const nlohmann::ordered_json& tools);
std::string harmony_rest(GrammarRules& rules, const nlohmann::ordered_json& tools,
                         bool name_is_known);

}  // namespace mlxr
