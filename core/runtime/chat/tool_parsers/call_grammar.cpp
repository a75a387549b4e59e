#include "core/runtime/chat/tool_parsers/call_grammar.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

// As long as in an answer's JSON (core/runtime/text-ffi/src/grammar.rs), or a model could write
// white space without end.
constexpr std::string_view kSpace = R"((\x20|\n[\x20\t]{0,32}))";

// Between the marks of a call.
constexpr std::string_view kSpaceRules = "space: SPACE?\nSPACE: /[ \\t\\n]{1,32}/\n";

bool is_strict(const Json& tool) {
  const auto found = tool.at("function").find("strict");
  return found != tool.at("function").end() && *found == true;
}

Json schema_of(const Json& tool) {
  Json schema = Json::object();
  const auto found = tool.at("function").find("parameters");
  if (is_strict(tool) && found != tool.at("function").end() && found->is_object()) {
    schema = *found;
  }
  if (!schema.contains("type")) schema["type"] = "object";
  schema["x-guidance"] = {{"whitespace_pattern", kSpace}, {"lenient", !is_strict(tool)}};
  return schema;
}

// A string of the grammar that matches JSON's spelling of `text`.
std::string literal_of(std::string_view text) { return Json(Json(text).dump()).dump(); }

std::string name_of(const Json& tool) { return tool.at("function").at("name").get<std::string>(); }

// From the name's value to the end of the object, one way a tool.
std::string rest_of_call(const JsonCall& spelling, const Json& tools) {
  std::string rules(kSpaceRules);
  rules += "rest: space named space \"}\"\nnamed: ";
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string arguments = "arguments_" + std::to_string(i);
    rules += i > 0 ? "\n  | " : "";
    rules += literal_of(name_of(tools[i])) + " space \",\" space " +
             literal_of(spelling.arguments_key) + " space \":\" space " + arguments;
  }
  for (size_t i = 0; i < tools.size(); ++i) {
    rules += "\narguments_" + std::to_string(i) + ": %json " + schema_of(tools[i]).dump();
  }
  return rules + "\n";
}

}  // namespace

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
    default:
      return std::nullopt;
  }
}

bool asks_for_strict_calls(const Json& tools) {
  for (const Json& tool : tools) {
    if (is_strict(tool)) return true;
  }
  return false;
}

std::string_view call_mark(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
    case ToolFormat::kQwenXml:
    case ToolFormat::kGlm:
      return "<tool_call>";
    case ToolFormat::kPhi:
    case ToolFormat::kGranite:
      return "<|tool_call|>";
    case ToolFormat::kLlamaJson:
      return "<|python_tag|>";
    case ToolFormat::kMistral:
      return "[TOOL_CALLS]";
    case ToolFormat::kDeepSeek:
      return "<｜tool▁calls▁begin｜>";
    case ToolFormat::kGemmaFunction:
      return "<start_function_call>";
    case ToolFormat::kGemmaCall:
      return "<|tool_call>";
    case ToolFormat::kCommandR:
      return "<|START_ACTION|>";
    default:
      return "";
  }
}

std::string calls_grammar(ToolFormat format, const Json& tools) {
  const std::string call = R"("{" space "\"name\"" space ":" rest)";
  if (format == ToolFormat::kHermes) {
    return "start: space " + call + "\n" + rest_of_call(*json_call(format), tools);
  }
  if (format == ToolFormat::kPhi || format == ToolFormat::kGranite) {
    return "start: space \"[\" space call (space \",\" space call)* space \"]\"\ncall: " + call +
           "\n" + rest_of_call(*json_call(format), tools);
  }
  return "";
}

std::string forced_call_grammar(ToolFormat format, const Json& tools, std::string_view name) {
  const auto spelling = json_call(format);
  if (!spelling) return "";
  if (name.empty()) return "start: rest\n" + rest_of_call(*spelling, tools);
  for (const Json& tool : tools) {
    if (name_of(tool) != name) continue;
    return "start: space arguments space \"}\"\n" + std::string(kSpaceRules) + "arguments: %json " +
           schema_of(tool).dump() + "\n";
  }
  return "";
}

}  // namespace mlxr
