// A tag an argument, in the schema's order: strings bare up to the closing tag, other values as
// JSON.
#include <algorithm>

#include "core/base/error.h"
#include "core/runtime/chat/tool_parsers/call_rules.h"
#include "core/runtime/chat/tool_parsers/schema_grammar.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

struct Tags {
  std::string before_key, after_key;
  std::string before_value;  // empty: the value has lines of its own
  std::string close;
  bool has_lines() const { return before_value.empty(); }
};

const Tags kQwen{"<parameter=", ">", "", "</parameter>"};
const Tags kGlm{"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"};

class TaggedValues {
 public:
  TaggedValues(GrammarRules& rules, const Tags& tags, Json root)
      : rules_(rules), tags_(tags), root_(std::move(root)) {}

  // Every argument, those that are not required left out or not.
  std::string arguments() {
    const Json schema = resolved(root_, root_);
    check_keywords(schema);
    for (const char* choice : {"anyOf", "allOf"}) {
      if (schema.contains(choice)) refuse("\"" + std::string(choice) + "\" of all arguments");
    }
    const Json properties = with_required_properties(schema);
    if (properties.empty() && schema.value("additionalProperties", Json(true)) == true) {
      return any_arguments();
    }
    std::string body;
    for (const auto& [name, property] : properties.items()) {
      const std::string one = rules_.rule(argument(name, property) + " space");
      body += (body.empty() ? "" : " ") + one + (is_required(schema, name) ? "" : "?");
    }
    return body.empty() ? "\"\"" : body;
  }

  std::string any_arguments() {
    return "(" + key("/[A-Za-z0-9_.\\-]{1,64}/") + " " + text() + " space)*";
  }

 private:
  [[noreturn]] static void refuse(const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument,
                what + " cannot be held in this model's format of calls; leave \"strict\" out");
  }

  std::string key(const std::string& name) const {
    const std::string begun = rules_.mark(tags_.before_key) + " " + name + " ";
    if (tags_.has_lines()) return begun + GrammarRules::literal(tags_.after_key + "\n");
    return begun + rules_.mark(tags_.after_key) + " space " + rules_.mark(tags_.before_value);
  }

  std::string argument(const std::string& name, const Json& schema) {
    if (!is_plain_name(name)) refuse("the argument's name \"" + name + "\"");
    return key(GrammarRules::literal(name)) + " " + value(schema);
  }

  std::string text(const std::string& content = "") {
    if (!tags_.has_lines()) return rules_.text_up_to(tags_.close, content);
    return rules_.text_up_to(tags_.close, "(" + (content.empty() ? "ANY" : content) + ") \"\\n\"");
  }

  std::string close() const {
    return (tags_.has_lines() ? "\"\\n\" " : "") + rules_.mark(tags_.close);
  }

  // With the closing tag.
  std::string value(const Json& schema) {
    std::vector<Json> kinds;
    split(schema, kinds, 0);
    const bool is_number = kinds.size() == 1 && kinds[0].value("type", "") == "number" &&
                           !bare_form(kinds[0], "number").empty();
    if (!is_number && std::none_of(kinds.begin(), kinds.end(), is_text)) return whole_json(schema);
    std::vector<std::string> ways;
    for (const Json& kind : kinds) ways.push_back(way(kind));
    return rules_.choice(ways);
  }

  std::string whole_json(const Json& schema) {
    Json self = resolved(schema, root_);
    for (const char* definitions : {"$defs", "definitions"}) {
      if (root_.contains(definitions)) self[definitions] = root_[definitions];
    }
    return rules_.json(self) + " " + close();
  }

  // One schema a kind of value, each with one type or one constant.
  void split(const Json& schema, std::vector<Json>& kinds, int depth) {
    if (depth > 16) refuse("a schema that refers to itself so");
    const Json at = resolved(schema, root_);
    if (!at.is_object()) return kinds.push_back(Json::object());
    check_keywords(at);
    if (at.contains("const")) return kinds.push_back({{"const", at["const"]}});
    if (at.contains("enum")) {
      for (const Json& one : at["enum"]) kinds.push_back({{"const", one}});
      return;
    }
    if (at.contains("anyOf")) {
      for (const Json& one : at["anyOf"]) split(one, kinds, depth + 1);
      return;
    }
    if (at.contains("allOf")) {
      if (at["allOf"].size() != 1) refuse("\"allOf\" of several schemas");
      return split(at["allOf"][0], kinds, depth + 1);
    }
    if (!at.contains("type") || !at["type"].is_array()) return kinds.push_back(at);
    for (const Json& type : at["type"]) {
      Json one = at;
      one["type"] = type;
      kinds.push_back(std::move(one));
    }
  }

  // Without a type and without the words of objects and lists, anything: text is.
  static bool is_text(const Json& kind) {
    if (kind.contains("const")) return kind["const"].is_string();
    if (kind.contains("type")) return kind["type"] == "string";
    return !kind.contains("properties") && !kind.contains("items");
  }

  std::string way(const Json& kind) {
    if (kind.contains("const")) {
      const Json& value = kind["const"];
      return constant(value.is_string() ? value.get<std::string>() : value.dump());
    }
    if (is_text(kind)) return text(bare_string(kind));
    const std::string_view form = bare_form(kind, kind.value("type", "object"));
    if (form.empty()) {
      refuse("a value that may be a string, or else an object, a list or a limited number,");
    }
    return text(std::string(form));
  }

  // One lexeme where the tag is text, as bare text up to it is one.
  std::string constant(const std::string& text) const {
    if (text.find(tags_.close) != std::string::npos) refuse("a value with " + tags_.close);
    const std::string line = text + (tags_.has_lines() ? "\n" : "");
    if (!rules_.is_control_token(tags_.close)) return GrammarRules::literal(line + tags_.close);
    return GrammarRules::literal(line) + " " + rules_.mark(tags_.close);
  }

  GrammarRules& rules_;
  const Tags& tags_;
  Json root_;
};

}  // namespace

CallRules tagged_call_rules(GrammarRules& rules, ToolFormat format, const Json& tools) {
  const bool is_qwen = format == ToolFormat::kQwenXml;
  CallRules parts;
  parts.intro = "space";
  parts.begin = is_qwen ? GrammarRules::literal("<function=") : "";
  for (const Json& tool : tools) {
    if (!is_plain_name(tool_name(tool))) continue;
    TaggedValues values(rules, is_qwen ? kQwen : kGlm, arguments_schema(tool));
    parts.tools.push_back(
        {GrammarRules::literal(tool_name(tool)), is_qwen ? "\">\"" : "",
         "space " + (is_strict_tool(tool) ? values.arguments() : values.any_arguments())});
  }
  parts.finish = is_qwen ? "\"</function>\" space" : "";
  parts.end = rules.mark("</tool_call>");
  return parts;
}

}  // namespace mlxr
