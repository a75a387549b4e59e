#include "core/runtime/chat/tool_parsers/schema_grammar.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/error.h"

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kLongestChain = 32;  // of "$ref"s that lead to "$ref"s

constexpr std::array<std::string_view, 20> kNotHeld{"oneOf",
                                                    "not",
                                                    "if",
                                                    "then",
                                                    "else",
                                                    "dependentSchemas",
                                                    "dependentRequired",
                                                    "patternProperties",
                                                    "minProperties",
                                                    "maxProperties",
                                                    "propertyNames",
                                                    "prefixItems",
                                                    "additionalItems",
                                                    "contains",
                                                    "minContains",
                                                    "maxContains",
                                                    "uniqueItems",
                                                    "unevaluatedItems",
                                                    "unevaluatedProperties",
                                                    "$dynamicRef"};

constexpr std::array<std::string_view, 6> kOfNumbers{
    "type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"};

struct Format {
  std::string_view name, form;
};
constexpr Format kFormats[] = {
    {"date", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"},
    {"time",
     "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+\\-][01][0-9]:[0-5][0-9])"},
    {"date-time",
     "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
     "(\\.[0-9]{1,9})?(Z|[+\\-][01][0-9]:[0-5][0-9])"},
    {"uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+\\-]+(\\.[A-Za-z0-9_+\\-]+)*@[A-Za-z0-9]+([.\\-][A-Za-z0-9]+)*"},
    {"ipv4", "((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"},
    {"uri", "[a-z][a-z0-9+.\\-]*:[A-Za-z0-9._~%:\\/?#@!$&()*+,;=\\-]+"},
};

std::string in_quotes(std::string_view key) { return std::string("\"").append(key).append("\""); }

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              what +
                  " cannot be held in this model's format of calls; leave it out of the strict "
                  "tool's schema, or \"strict\" out of the tool");
}

bool has(const Json& schema, std::string_view key) {
  return schema.is_object() && schema.contains(key);
}

// A pattern is found anywhere in the string, but for its anchors.
std::string pattern_body(const std::string& pattern) {
  std::string inner = pattern, body;
  const bool from_start = inner.starts_with('^');
  if (from_start) inner.erase(0, 1);
  const bool to_end = inner.ends_with('$') && !inner.ends_with("\\$");
  if (to_end) inner.pop_back();
  std::string escaped;
  for (size_t i = 0; i < inner.size(); ++i) {
    if (inner[i] == '\\' && i + 1 < inner.size()) {
      escaped += inner.substr(i++, 2);
    } else {
      escaped += inner[i] == '/' ? "\\/" : inner.substr(i, 1);
    }
  }
  if (!from_start) body += "ANY ";
  if (!escaped.empty()) body += "/(" + escaped + ")/";
  if (!to_end) body += " ANY";
  return body.empty() ? "\"\"" : body;
}

std::vector<std::string> types_of(const Json& schema) {
  if (has(schema, "type")) {
    return schema["type"].is_array() ? schema["type"].get<std::vector<std::string>>()
                                     : std::vector{schema["type"].get<std::string>()};
  }
  if (has(schema, "properties") || has(schema, "required") || has(schema, "additionalProperties")) {
    return {"object"};
  }
  if (has(schema, "items")) return {"array"};
  return {};
}

}  // namespace

Json with_required_properties(const Json& schema) {
  Json properties = has(schema, "properties") ? schema["properties"] : Json::object();
  if (!has(schema, "required")) return properties;
  for (const Json& name : schema["required"]) {
    if (!properties.contains(name.get<std::string>())) properties[name.get<std::string>()] = true;
  }
  return properties;
}

bool is_required(const Json& schema, const std::string& name) {
  return has(schema, "required") && std::find(schema["required"].begin(), schema["required"].end(),
                                              name) != schema["required"].end();
}

Json resolved(const Json& schema, const Json& root) {
  Json at = schema;
  for (int i = 0; i < kLongestChain && has(at, "$ref"); ++i) {
    const std::string pointer = at["$ref"].get<std::string>();
    if (!pointer.starts_with('#')) refuse("\"$ref\": \"" + pointer + "\"");
    const Json::json_pointer where(pointer.substr(1));
    if (!root.contains(where)) refuse("\"$ref\": \"" + pointer + "\", which leads nowhere,");
    at = root.at(where);
  }
  return at;
}

void check_keywords(const Json& schema) {
  for (const std::string_view key : kNotHeld) {
    if (has(schema, key)) refuse(in_quotes(key));
  }
}

std::string bare_string(const Json& schema) {
  std::string body;
  const auto also = [&body](const std::string& part) {
    body += (body.empty() ? "(" : " & (") + part + ")";
  };
  if (has(schema, "pattern")) also(pattern_body(schema["pattern"].get<std::string>()));
  if (has(schema, "minLength") || has(schema, "maxLength")) {
    const std::string longest = has(schema, "maxLength") ? schema["maxLength"].dump() : "";
    also("/(?s:.){" + std::to_string(schema.value("minLength", 0)) + "," + longest + "}/");
  }
  if (has(schema, "format")) {
    const std::string name = schema["format"].get<std::string>();
    const auto found = std::find_if(std::begin(kFormats), std::end(kFormats),
                                    [&](const Format& format) { return format.name == name; });
    if (found == std::end(kFormats)) refuse("\"format\": \"" + name + "\"");
    also(std::string("/").append(found->form).append("/"));
  }
  return body;
}

std::string_view bare_form(const Json& schema, std::string_view type) {
  for (const std::string_view key : kOfNumbers) {
    if (key != "type" && has(schema, key)) return "";
  }
  // Larger ones would be read as something else.
  if (type == "integer") return "/-?(0|[1-9][0-9]{0,17})/";
  if (type == "number") return "/-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?([eE][+\\-]?[0-9]{1,2})?/";
  if (type == "boolean") return "/true|false/";
  return type == "null" ? "/null/" : "";
}

std::string SchemaGrammar::arguments() { return members(resolved(root_, root_), true); }

std::string SchemaGrammar::any_arguments() { return free_members(any_value(), true); }

std::string SchemaGrammar::value(const Json& schema) {
  if (!schema.is_object() || schema.empty()) return any_value();
  if (has(schema, "$ref")) return referred(schema["$ref"].get<std::string>());
  check_keywords(schema);
  if (has(schema, "const")) return literal(schema["const"]);
  std::vector<std::string> ways;
  if (has(schema, "enum")) {
    for (const Json& one : schema["enum"]) ways.push_back(literal(one));
    return rules_.choice(ways);
  }
  if (has(schema, "anyOf")) {
    for (const Json& one : schema["anyOf"]) ways.push_back(value(one));
    return rules_.choice(ways);
  }
  if (has(schema, "allOf")) {
    if (schema["allOf"].size() != 1) refuse("\"allOf\" of several schemas");
    return value(schema["allOf"][0]);
  }
  for (const std::string& name : types_of(schema)) ways.push_back(type(name, schema));
  return ways.empty() ? any_value() : ways.size() == 1 ? ways[0] : rules_.choice(ways);
}

std::string SchemaGrammar::referred(const std::string& pointer) {
  const auto known = referred_.find(pointer);
  if (known != referred_.end()) return known->second;
  const std::string name = rules_.name_rule();
  referred_[pointer] = name;
  rules_.define(name, value(resolved({{"$ref", pointer}}, root_)));
  return name;
}

std::string SchemaGrammar::type(const std::string& name, const Json& schema) {
  if (name == "string") return spelling_.string(rules_, schema);
  if (name == "boolean") return rules_.choice({literal(true), literal(false)});
  if (name == "null") return literal(nullptr);
  if (name == "object") return object(schema);
  if (name == "array") return array(schema);
  if (const std::string_view bare = bare_form(schema, name); !bare.empty())
    return std::string(bare);
  if (name != "number" && name != "integer") refuse("\"type\": \"" + name + "\"");
  Json number = Json::object();
  for (const std::string_view key : kOfNumbers) {
    if (has(schema, key)) number[std::string(key)] = schema[std::string(key)];
  }
  number["type"] = name;
  return rules_.json(std::move(number));
}

std::string SchemaGrammar::literal(const Json& value) {
  if (value.is_array()) {
    std::string body;
    for (const Json& item : value) {
      body += (body.empty() ? "" : " space \",\" space ") + literal(item);
    }
    return rules_.rule("\"[\" space " + body + " space \"]\"");
  }
  if (value.is_object()) {
    std::string body;
    for (const auto& [key, item] : value.items()) {
      body += body.empty() ? "" : " space \",\" space ";
      body += spelling_.key(rules_, key, false) + " space " + literal(item);
    }
    return rules_.rule("\"{\" space " + body + " space \"}\"");
  }
  if (value.is_number()) return GrammarRules::literal(value.dump());
  return spelling_.scalar(rules_, value);
}

std::string SchemaGrammar::object(const Json& schema) {
  return rules_.rule("\"{\" space " + members(schema, false) + " space \"}\"");
}

std::string SchemaGrammar::members(const Json& schema, bool arguments) {
  check_keywords(schema);
  for (const char* choice : {"anyOf", "allOf"}) {
    if (arguments && has(schema, choice)) refuse(in_quotes(choice) + " of all arguments");
  }
  const Json others = schema.value("additionalProperties", Json(true));
  const Json properties = with_required_properties(schema);
  if (properties.empty() && others != false) return free_members(value(others), arguments);
  // The members from one on: after others, with a comma before each, and as the first.
  std::string later, first;
  for (auto at = properties.rbegin(); at != properties.rend(); ++at) {
    const std::string member =
        rules_.rule(spelling_.key(rules_, at.key(), arguments) + " space " + value(at.value()));
    const bool optional = !is_required(schema, at.key());
    const std::string begins = member + (later.empty() ? "" : " " + later);
    const std::string next = "space \",\" space " + member;
    std::vector<std::string> ways{begins};
    if (optional) ways.push_back(first.empty() ? "\"\"" : first);
    first = rules_.choice(ways);
    later = rules_.rule((optional ? "(" + next + ")?" : next) + (later.empty() ? "" : " " + later));
  }
  return first.empty() ? "\"\"" : first;
}

std::string SchemaGrammar::free_members(const std::string& item, bool arguments) {
  const std::string member = rules_.rule(spelling_.any_key(arguments) + " space " + item);
  return rules_.rule("(" + member + " (space \",\" space " + member + ")*)?");
}

std::string SchemaGrammar::array(const Json& schema) {
  const std::string item = value(schema.value("items", Json(true)));
  const int64_t least = schema.value("minItems", int64_t{0});
  const int64_t most = schema.value("maxItems", int64_t{-1});
  if (most == 0) return "(\"[\" space \"]\")";
  std::string more =
      "(space \",\" space " + item + "){" + std::to_string(std::max<int64_t>(least - 1, 0)) + ",";
  more += (most < 0 ? "" : std::to_string(most - 1)) + "}";
  const std::string items = "(" + item + " " + more + ")" + (least == 0 ? "?" : "");
  return rules_.rule("\"[\" space " + items + " space \"]\"");
}

std::string SchemaGrammar::any_value() {
  if (!any_.empty()) return any_;
  any_ = rules_.name_rule();
  const std::string list =
      rules_.rule("\"[\" space (" + any_ + " (space \",\" space " + any_ + ")*)? space \"]\"");
  const std::string members =
      rules_.rule("\"{\" space " + free_members(any_, false) + " space \"}\"");
  const std::string plain = rules_.choice({spelling_.string(rules_, Json::object()),
                                           std::string(bare_form(Json::object(), "number")),
                                           literal(true), literal(false), literal(nullptr)});
  rules_.define(any_, plain + " | " + list + " | " + members);
  return any_;
}

}  // namespace mlxr
