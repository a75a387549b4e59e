#include "core/runtime/chat/tool_parsers/call_grammar.h"

#include <algorithm>

#include "core/runtime/chat/tool_parsers/call_rules.h"

namespace mlxr {

using Json = nlohmann::ordered_json;

std::string tool_name(const Json& tool) {
  return tool.at("function").at("name").get<std::string>();
}

bool is_strict_tool(const Json& tool) {
  const auto found = tool.at("function").find("strict");
  return found != tool.at("function").end() && *found == true;
}

Json arguments_schema(const Json& tool) {
  Json schema = Json::object();
  const auto found = tool.at("function").find("parameters");
  if (is_strict_tool(tool) && found != tool.at("function").end() && found->is_object()) {
    schema = *found;
  }
  if (!schema.contains("type")) schema["type"] = "object";
  schema["x-guidance"] = {{"lenient", !is_strict_tool(tool)}};
  return schema;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '-' || c == '.';
  });
}

namespace {

std::string one_way(const CallRules::One& tool) {
  return tool.name + " " + tool.joint + " " + tool.arguments;
}

std::string any_tool(GrammarRules& rules, const CallRules& parts) {
  std::vector<std::string> ways;
  for (const CallRules::One& tool : parts.tools) ways.push_back(one_way(tool));
  return rules.choice(ways);
}

std::string more_calls(const CallRules& parts, const std::string& call) {
  if (parts.separator.empty()) return " " + parts.end;
  return " (" + parts.separator + " " + call + ")* " + parts.end;
}

// Of formats whose calls end with them or have a mark before each.
CallRules call_rules(GrammarRules& rules, ToolFormat format, const Json& tools) {
  switch (format) {
    case ToolFormat::kGemmaFunction:
    case ToolFormat::kGemmaCall:
      return gemma_call_rules(rules, format, tools);
    case ToolFormat::kLlamaPythonic:
    case ToolFormat::kGemmaCode:
      return python_call_rules(rules, format, tools);
    case ToolFormat::kQwenXml:
    case ToolFormat::kGlm:
      return tagged_call_rules(rules, format, tools);
    case ToolFormat::kMistralNamed:
      return mistral_call_rules(rules, tools);
    default:
      return json_call(format) ? json_call_rules(rules, format, tools) : CallRules{};
  }
}

constexpr std::string_view kDeepSeekList = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kDeepSeekCall = "<｜tool▁call▁begin｜>";

// What follows kDeepSeekList.
std::string deepseek_calls(GrammarRules& rules, const Json& tools) {
  const std::string call = deepseek_call(rules, tools);
  if (call.empty()) return "";
  const std::string begun = rules.rule(rules.mark(kDeepSeekCall) + " " + call);
  return "space " + begun + " (space " + begun + ")* space " + rules.mark("<｜tool▁calls▁end｜>");
}

// What follows a mark; empty where it cannot be held.
std::string marked_calls(GrammarRules& rules, ToolFormat format, const Json& tools,
                         std::string_view mark) {
  if (format == ToolFormat::kCommandRPlus) return "";
  if (format == ToolFormat::kDeepSeek) {
    return mark == kDeepSeekList ? deepseek_calls(rules, tools) : deepseek_call(rules, tools);
  }
  const bool mistral = format == ToolFormat::kMistral || format == ToolFormat::kMistralNamed;
  const CallRules parts = call_rules(rules, mistral ? ToolFormat::kMistral : format, tools);
  if (parts.tools.empty()) return "";
  const std::string calls = all_calls(rules, parts);
  if (!mistral) return calls;
  const CallRules named = mistral_call_rules(rules, tools);
  return named.tools.empty() ? calls : rules.choice({calls, all_calls(rules, named)});
}

// Text, and calls where it writes a mark.
std::string marked_answer(GrammarRules& rules, ToolFormat format, const Json& tools) {
  std::vector<std::string> marks, ways;
  for (const std::string_view mark : call_marks(format)) marks.emplace_back(mark);
  for (const std::string& mark : marks) {
    const std::string calls = marked_calls(rules, format, tools, mark);
    if (calls.empty()) return "";
    std::vector<std::string> others = marks;
    std::erase(others, mark);
    ways.push_back(rules.text_up_to(mark, "", others) + " " + calls);
  }
  if (format == ToolFormat::kPhiFunctools) {
    // What else the parser takes for the beginning of a call.
    for (const char* odd : {"functools [", "functools\n[", "functools{", "functools {"}) {
      marks.emplace_back(odd);
    }
  }
  return ways.empty() ? "" : rules.choice(ways) + "* " + rules.text_without(marks);
}

}  // namespace

std::string one_call(GrammarRules& rules, const CallRules& parts) {
  return parts.begin + " " + any_tool(rules, parts) + " " + parts.finish;
}

std::string all_calls(GrammarRules& rules, const CallRules& parts) {
  const std::string call = rules.rule(one_call(rules, parts));
  return rules.rule(parts.intro + " " + call + more_calls(parts, call));
}

std::string rest_of_first_call(GrammarRules& rules, const CallRules& parts, bool name_is_known) {
  const std::string first = name_is_known ? parts.tools[0].arguments : any_tool(rules, parts);
  const std::string call = rules.rule(one_call(rules, parts));
  return first + " " + parts.finish + more_calls(parts, call);
}

std::optional<JsonCall> json_call(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return JsonCall{"<tool_call>\n"};
    case ToolFormat::kLlamaJson:
      return JsonCall{"", "parameters"};
    case ToolFormat::kMistral:
      return JsonCall{"[TOOL_CALLS]["};
    case ToolFormat::kPhi:
    case ToolFormat::kGranite:
      return JsonCall{"<|tool_call|>["};
    case ToolFormat::kPhiFunctools:
      return JsonCall{"functools["};
    case ToolFormat::kCommandR:
      return JsonCall{"<|START_ACTION|>[\n    ", "parameters", "tool_name",
                      "\"tool_call_id\": \"0\", "};
    case ToolFormat::kCommandRPlus:
      return JsonCall{"Action: ```json\n[\n    ", "parameters", "tool_name"};
    default:
      return std::nullopt;
  }
}

bool asks_for_strict_calls(const Json& tools) {
  return std::any_of(tools.begin(), tools.end(), is_strict_tool);
}

std::vector<std::string_view> call_marks(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
    case ToolFormat::kQwenXml:
    case ToolFormat::kGlm:
      return {"<tool_call>"};
    case ToolFormat::kPhi:
      return {"<|tool_call|>"};
    case ToolFormat::kGranite:
      return {"<|tool_call|>", "<tool_call>"};
    case ToolFormat::kPhiFunctools:
      return {"functools["};
    case ToolFormat::kLlamaJson:
      return {"<|python_tag|>"};
    case ToolFormat::kLlamaPythonic:
      return {"<|python_start|>", "<|python_tag|>"};
    case ToolFormat::kMistral:
    case ToolFormat::kMistralNamed:
      return {"[TOOL_CALLS]"};
    case ToolFormat::kDeepSeek:
      return {kDeepSeekList, kDeepSeekCall};
    case ToolFormat::kGemmaCode:
      return {"```tool_code"};
    case ToolFormat::kGemmaFunction:
      return {"<start_function_call>"};
    case ToolFormat::kGemmaCall:
      return {"<|tool_call>"};
    case ToolFormat::kCommandR:
      return {"<|START_ACTION|>"};
    default:
      return {};
  }
}

bool begins_without_mark(ToolFormat format) {
  return format == ToolFormat::kLlamaJson || format == ToolFormat::kLlamaPythonic ||
         format == ToolFormat::kHarmony;
}

std::string calls_grammar(ToolFormat format, const Json& tools, std::string_view mark,
                          const ControlTokens& tokens) {
  GrammarRules rules(tokens);
  const std::string calls = marked_calls(rules, format, tools, mark);
  return calls.empty() ? "" : rules.grammar(calls);
}

std::string answer_grammar(ToolFormat format, const Json& tools, const ControlTokens& tokens) {
  GrammarRules rules(tokens);
  const std::string answer = format == ToolFormat::kLlamaJson       ? llama_answer(rules, tools)
                             : format == ToolFormat::kLlamaPythonic ? pythonic_answer(rules, tools)
                             : format == ToolFormat::kHarmony       ? harmony_answer(rules, tools)
                                                              : marked_answer(rules, format, tools);
  return answer.empty() ? "" : rules.grammar(answer);
}

std::string forced_call_grammar(ToolFormat format, const Json& tools, std::string_view name,
                                const ControlTokens& tokens) {
  Json callable = Json::array();
  for (const Json& tool : tools) {
    if (name.empty() || tool_name(tool) == name) callable.push_back(tool);
  }
  GrammarRules rules(tokens);
  if (format == ToolFormat::kHarmony) {
    const std::string rest = harmony_rest(rules, callable, !name.empty());
    return rest.empty() ? "" : rules.grammar(rest);
  }
  if (format == ToolFormat::kDeepSeek) {
    const std::string call = deepseek_call(rules, callable);
    const std::string mark = rules.mark(kDeepSeekCall);
    if (call.empty()) return "";
    return rules.grammar(call + " (space " + mark + " " + call + ")* space " +
                         rules.mark("<｜tool▁calls▁end｜>"));
  }
  const CallRules parts = call_rules(rules, format, callable);
  return parts.tools.empty() ? "" : rules.grammar(rest_of_first_call(rules, parts, !name.empty()));
}

}  // namespace mlxr
