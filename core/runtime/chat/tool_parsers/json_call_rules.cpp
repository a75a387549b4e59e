// Calls whose arguments are JSON: in objects, or after a name.
#include "core/runtime/chat/tool_parsers/call_rules.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

// A string of the grammar that matches JSON's spelling of `text`.
std::string json_text(std::string_view text) {
  return GrammarRules::literal(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

// Of calls, where models write one: the parser reads over it.
constexpr std::string_view kId = R"(/"[A-Za-z0-9_\-]{1,64}"/)";

std::string member(std::string_view key, const std::string& value) {
  return json_text(key) + " space \":\" space " + value;
}

std::string call_separator(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return "";
    case ToolFormat::kLlamaJson:
      return "(/[ \\t\\n;]{1,32}/)?";
    default:
      return "space \",\" space";
  }
}

std::string calls_end(const GrammarRules& rules, ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return "space " + rules.mark("</tool_call>");
    case ToolFormat::kLlamaJson:
      return "(/[ \\t\\n;]{1,32}/)?";
    case ToolFormat::kPhi:
      return "space \"]\" space " + rules.mark("<|/tool_call|>");
    case ToolFormat::kCommandR:
      return "space \"]\" space " + rules.mark("<|END_ACTION|>");
    case ToolFormat::kCommandRPlus:
      return "space \"]\" space \"```\"";
    case ToolFormat::kGranite:
    case ToolFormat::kPhiFunctools:
      // They have no closing mark: whatever object follows is read as one more call.
      return "space \"]\" /[^{]*/";
    default:
      return "space \"]\"";
  }
}

}  // namespace

CallRules json_call_rules(GrammarRules& rules, ToolFormat format, const Json& tools) {
  const JsonCall spelling = *json_call(format);
  CallRules parts;
  const bool is_list = format != ToolFormat::kHermes && format != ToolFormat::kLlamaJson;
  if (format == ToolFormat::kHermes || format == ToolFormat::kLlamaJson) parts.intro = "space";
  if (is_list && format != ToolFormat::kPhiFunctools) parts.intro = "space \"[\" space";
  parts.begin = "\"{\" space ";
  if (format == ToolFormat::kCommandR) {
    parts.begin += "(" + member("tool_call_id", std::string(kId)) + " space \",\" space)? ";
  } else if (format == ToolFormat::kLlamaJson) {
    parts.begin += "(" + member("type", json_text("function")) + " space \",\" space)? ";
  }
  parts.begin += json_text(spelling.name_key) + " space \":\"";
  for (const Json& tool : tools) {
    parts.tools.push_back(
        {"space " + json_text(tool_name(tool)),
         "space \",\" space " + json_text(spelling.arguments_key) + " space \":\"",
         "space " + rules.json(arguments_schema(tool))});
  }
  parts.finish = "space \"}\"";
  if (format == ToolFormat::kMistral) {
    parts.finish = "space (\",\" space " + member("id", std::string(kId)) + " space)? \"}\"";
  }
  parts.separator = call_separator(format);
  parts.end = calls_end(rules, format);
  return parts;
}

CallRules mistral_call_rules(GrammarRules& rules, const Json& tools) {
  CallRules parts;
  parts.intro = "space";
  const std::string id = "(" + rules.mark("[CALL_ID]") + " /[A-Za-z0-9_\\-]{1,64}/)?";
  for (const Json& tool : tools) {
    if (!is_plain_name(tool_name(tool))) continue;
    parts.tools.push_back({GrammarRules::literal(tool_name(tool)),
                           "(" + id + " " + rules.mark("[ARGS]") + ")?",
                           "space " + rules.json(arguments_schema(tool))});
  }
  return parts;
}

std::string deepseek_call(GrammarRules& rules, const Json& tools) {
  const std::string between = rules.mark("<｜tool▁sep｜>");
  std::vector<std::string> ways;
  for (const Json& tool : tools) {
    if (!is_plain_name(tool_name(tool)) || tool_name(tool) == "function") continue;
    const std::string name = GrammarRules::literal(tool_name(tool));
    const std::string arguments = rules.json(arguments_schema(tool));
    ways.push_back("\"function\" " + between + " " + name + " \"\\n```json\\n\" " + arguments +
                   " \"\\n```\"");
    ways.push_back(name + " " + between + " space " + arguments);
  }
  if (ways.empty()) return "";
  return rules.rule(rules.choice(ways) + " space " + rules.mark("<｜tool▁call▁end｜>"));
}

std::string llama_answer(GrammarRules& rules, const Json& tools) {
  CallRules parts = json_call_rules(rules, ToolFormat::kLlamaJson, tools);
  const std::string objects = all_calls(rules, parts);
  // The answer's first bracket may begin a call, or JSON that is the answer.
  const std::string_view brace = "\"{\" space ";
  CallRules opened = parts;
  opened.intro.clear();
  opened.begin.erase(0, brace.size());
  CallRules listed = opened;
  const std::string next = rules.rule(one_call(rules, parts));
  const std::string first = one_call(rules, opened);
  const std::string no_call = rules.rule(
      rules.terminal(
          "/\"[^\"\\\\\\x00-\\x1f]*\"/ & ~/\"(name|tool_name|function|arguments|parameters|"
          "args|type|id|tool_call_id)\"/") +
      " ANY | \"}\" ANY | /[^ \\t\\r\\n\"}](?s:.)*/");
  const std::string list = first + " (space \",\" space " + next + ")* space \"]\"";
  const std::string text = rules.terminal("/[^ \\t\\r\\n;{\\[](?s:.)*/ & ~(" +
                                          GrammarRules::literal("<|python_tag|>") + " ALL)");
  return "space (" +
         rules.choice(
             {rules.mark("<|python_tag|>") + " " + objects,
              "\"{\" space " +
                  rules.choice(
                      {first + " (" + parts.separator + " " + next + ")* " + parts.end, no_call}),
              "\"[\" space " + rules.choice({"\"{\" space " + rules.choice({list, no_call}),
                                             "/[^ \\t\\r\\n{](?s:.)*/"}),
              text}) +
         ")?";
}

}  // namespace mlxr
