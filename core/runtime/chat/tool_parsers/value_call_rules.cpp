// Calls whose values are no JSON: Gemma's and Python's.
#include "core/runtime/chat/tool_parsers/call_rules.h"
#include "core/runtime/chat/tool_parsers/schema_grammar.h"

#include "core/base/error.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kOfStrings[] = {"minLength", "maxLength", "pattern", "format"};

std::string json_literal(const Json& value) {
  return GrammarRules::literal(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// Strings stand between marks and have no escapes; keys are bare.
class GemmaSpelling : public ValueSpelling {
 public:
  explicit GemmaSpelling(ToolFormat format)
      : quote_(format == ToolFormat::kGemmaCall ? "<|\"|>" : "<escape>"),
        close_(format == ToolFormat::kGemmaCall ? "<tool_call|>" : "<end_function_call>") {}

  const std::string& close() const { return close_; }

  std::string string(GrammarRules& rules, const Json& schema) const override {
    return rules.rule(rules.mark(quote_) + " " +
                      rules.text_up_to(quote_, bare_string(schema), {close_}));
  }
  std::string scalar(const GrammarRules& rules, const Json& value) const override {
    if (!value.is_string()) return json_literal(value);
    const std::string text = value.get<std::string>();
    if (text.find(quote_) != std::string::npos || text.find(close_) != std::string::npos) {
      throw Error(ErrorCode::kInvalidArgument,
                  "a value of the strict tool's schema holds " + quote_ + " or " + close_ +
                      ", which this model's format of calls cannot write");
    }
    return "(" + rules.mark(quote_) + " " + GrammarRules::literal(text) + " " + rules.mark(quote_) +
           ")";
  }
  std::string key(const GrammarRules& rules, const std::string& name, bool) const override {
    if (is_plain_name(name)) return GrammarRules::literal(name + ":");
    return scalar(rules, name) + " \":\"";
  }
  std::string any_key(bool) const override { return "/[A-Za-z0-9_.\\-]{1,64}:/"; }

 private:
  std::string quote_, close_;
};

class PythonSpelling : public ValueSpelling {
 public:
  std::string string(GrammarRules& rules, const Json& schema) const override {
    Json json = {{"type", "string"}};
    for (const char* key : kOfStrings) {
      if (schema.contains(key)) json[key] = schema[key];
    }
    const bool any = json.size() == 1;
    const std::string quoted = rules.json(std::move(json));
    return any ? "(" + quoted + " | /'([^'\\\\\\x00-\\x1f]|\\\\[\\\\'nrt])*'/)" : quoted;
  }
  std::string scalar(const GrammarRules&, const Json& value) const override {
    if (value.is_boolean()) return value.get<bool>() ? "\"True\"" : "\"False\"";
    return value.is_null() ? "\"None\"" : json_literal(value);
  }
  std::string key(const GrammarRules&, const std::string& name, bool argument) const override {
    if (!argument) return json_literal(name) + " space \":\"";
    if (!is_plain_name(name)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "\"" + name + "\" cannot be an argument's name in this model's format of calls");
    }
    return GrammarRules::literal(name + "=");
  }
  std::string any_key(bool argument) const override {
    return argument ? "/[A-Za-z_][A-Za-z0-9_]{0,63}=/"
                    : "/\"[^\"\\\\\\x00-\\x1f]{0,64}\"/ space \":\"";
  }
};

std::string arguments_of(GrammarRules& rules, const ValueSpelling& spelling, const Json& tool) {
  SchemaGrammar schema(rules, spelling, arguments_schema(tool));
  return is_strict_tool(tool) ? schema.arguments() : schema.any_arguments();
}

}  // namespace

CallRules gemma_call_rules(GrammarRules& rules, ToolFormat format, const Json& tools) {
  const GemmaSpelling spelling(format);
  CallRules parts;
  parts.intro = "space";
  parts.begin = "\"call:\"";
  for (const Json& tool : tools) {
    if (!is_plain_name(tool_name(tool))) continue;
    parts.tools.push_back({GrammarRules::literal(tool_name(tool)), "",
                           "\"{\" space " + arguments_of(rules, spelling, tool) + " space \"}\""});
  }
  parts.end = "space " + rules.mark(spelling.close());
  return parts;
}

CallRules python_call_rules(GrammarRules& rules, ToolFormat format, const Json& tools) {
  const PythonSpelling spelling;
  CallRules parts;
  parts.intro = format == ToolFormat::kGemmaCode ? "space" : "space \"[\" space";
  for (const Json& tool : tools) {
    if (!is_plain_name(tool_name(tool)) || tool_name(tool) == "print") continue;
    // With its bracket, or a name would end where a longer one goes on.
    parts.tools.push_back({GrammarRules::literal(tool_name(tool) + "("), "",
                           "space " + arguments_of(rules, spelling, tool)});
  }
  parts.finish = "space \")\"";
  parts.separator = "space \",\" space";
  parts.end = "space \"]\"";
  if (format == ToolFormat::kGemmaCode) {
    parts.separator = "/[,;]?[ \\t\\n]{1,32}/";
    parts.end = "space \"```\"";
  }
  return parts;
}

std::string pythonic_answer(GrammarRules& rules, const Json& tools) {
  CallRules parts = python_call_rules(rules, ToolFormat::kLlamaPythonic, tools);
  if (parts.tools.empty()) return "";
  parts.intro.clear();
  std::string names = "\"print(\"";
  for (const CallRules::One& tool : parts.tools) names += " | " + tool.name;
  for (const CallRules::One& tool : parts.tools) {
    names += " | " + tool.name.substr(0, tool.name.size() - 2) + "\" /[ \\t\\r\\n]/";
  }
  const std::string no_call = rules.terminal("/[^ \\t\\r\\n,;](?s:.)*/ & ~((" + names + ") ALL)");
  std::string marked, no_mark;
  for (const std::string_view mark : call_marks(ToolFormat::kLlamaPythonic)) {
    marked += (marked.empty() ? "" : " | ") + rules.mark(mark);
    no_mark += (no_mark.empty() ? "" : " | ") + GrammarRules::literal(mark);
  }
  const std::string text = rules.terminal("/[^ \\t\\r\\n\\[](?s:.)*/ & ~((" + no_mark + ") ALL)");
  const std::string calls = all_calls(rules, parts);
  return "space (" + text + " | (" + marked + ")? space \"[\" space (" + calls + " ANY | " +
         no_call + "))?";
}

}  // namespace mlxr
