// JSON schemas as rules of a grammar, for formats that write values otherwise than as JSON: bare
// strings, Python's literals.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/chat/tool_parsers/grammar_rules.h"

namespace mlxr {

// How a format spells values. The functions return expressions.
class ValueSpelling {
 public:
  virtual ~ValueSpelling() = default;
  // A string that fits what the schema says of strings.
  virtual std::string string(GrammarRules& rules, const nlohmann::ordered_json& schema) const = 0;
  // A string, a boolean or null. Everything else is written as JSON.
  virtual std::string scalar(const GrammarRules& rules,
                             const nlohmann::ordered_json& value) const = 0;
  // A member's key and what stands between it and the value; of the arguments, or deeper.
  virtual std::string key(const GrammarRules& rules, const std::string& name,
                          bool argument) const = 0;
  virtual std::string any_key(bool argument) const = 0;
};

// What `schema` allows. Throws Error{kInvalidArgument} for keywords that cannot be held.
// References are read in `root`, the schema of all arguments.
class SchemaGrammar {
 public:
  SchemaGrammar(GrammarRules& rules, const ValueSpelling& spelling, nlohmann::ordered_json root)
      : rules_(rules), spelling_(spelling), root_(std::move(root)) {}

  // The members of the root's object, with commas between but without its brackets.
  std::string arguments();
  // The same of a function without a schema: any.
  std::string any_arguments();
  std::string value(const nlohmann::ordered_json& schema);

 private:
  std::string any_value();
  std::string type(const std::string& name, const nlohmann::ordered_json& schema);
  std::string object(const nlohmann::ordered_json& schema);
  std::string members(const nlohmann::ordered_json& schema, bool arguments);
  std::string array(const nlohmann::ordered_json& schema);
  std::string literal(const nlohmann::ordered_json& value);
  std::string referred(const std::string& pointer);
  std::string free_members(const std::string& item, bool arguments);

  GrammarRules& rules_;
  const ValueSpelling& spelling_;
  nlohmann::ordered_json root_;
  std::map<std::string, std::string> referred_;  // rules of "$ref", which may be recursive
  std::string any_;
};

// The schema that a "$ref" (of a schema that has one) in `root` leads to, at last; else itself.
nlohmann::ordered_json resolved(const nlohmann::ordered_json& schema,
                                const nlohmann::ordered_json& root);

// The members that an object's schema names: its properties, and what it requires beside them.
nlohmann::ordered_json with_required_properties(const nlohmann::ordered_json& schema);
bool is_required(const nlohmann::ordered_json& schema, const std::string& name);

// The body of a terminal that matches strings as the schema wants them ("pattern", "minLength",
// "maxLength", "format"), written bare; empty for any string.
std::string bare_string(const nlohmann::ordered_json& schema);

// A terminal that matches JSON's spelling of any value of a plain type; empty for other types and
// for numbers that the schema limits.
std::string_view bare_form(const nlohmann::ordered_json& schema, std::string_view type);

// Throws for a keyword that is not among those that any function here reads.
void check_keywords(const nlohmann::ordered_json& schema);

}  // namespace mlxr
