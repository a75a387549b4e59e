#include "daemon/server/openai/constraint_fields.h"

#include <array>
#include <string>
#include <vector>

#include "daemon/server/http/api_error.h"
#include "daemon/server/schema.h"

namespace mlxr::openai {
namespace {

using ConstraintKind = ConstraintSpec::Kind;

constexpr const char* kAnyObject = R"({"type": "object"})";

[[noreturn]] void wrong(const std::string& path, const std::string& what) {
  throw bad_field(path, "\"" + path + "\" " + what);
}

// A schema as an object, or as text that holds one.
ConstraintSpec schema_spec(const Json& schema, const std::string& path, bool strict) {
  if (schema.is_string()) {
    return {ConstraintKind::kJsonSchema, schema.get<std::string>(), !strict};
  }
  if (!schema.is_object() && schema != Json(true)) {
    wrong(path, "must be a JSON schema, an object");
  }
  return {ConstraintKind::kJsonSchema, to_text(schema), !strict};
}

std::string text_of(const Json& value, const std::string& path) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    wrong(path, "must be a string that is not empty, not " + to_text(value));
  }
  return value.get<std::string>();
}

ConstraintSpec choice_spec(const Json& choices, const std::string& path) {
  if (!choices.is_array() || choices.empty()) {
    wrong(path, "must be an array of at least one string");
  }
  std::string lark = "start: ";
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::string choice = text_of(choices[i], path + "[" + std::to_string(i) + "]");
    lark += (i > 0 ? " | " : "") + to_text(Json(choice));
  }
  return {ConstraintKind::kLark, lark};
}

ConstraintSpec any_object() {
  ConstraintSpec spec;
  spec.kind = ConstraintKind::kJsonSchema;
  spec.text = kAnyObject;
  return spec;
}

// Member by member: g++ 12 takes the braces of all at once for uninitialised.
RequestedConstraint requested(ConstraintSpec spec, std::string field) {
  RequestedConstraint made;
  made.spec = std::move(spec);
  made.field = std::move(field);
  return made;
}

// {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}; llama-server also takes the
// schema beside the type, and one for json_object.
std::optional<RequestedConstraint> read_response_format(const Fields& fields) {
  const Json* format = fields.object("response_format");
  if (format == nullptr) {
    return std::nullopt;
  }
  const Fields outer(*format, "response_format.");
  const std::string type = outer.string("type").value_or("text");
  if (type == "text") {
    return std::nullopt;
  }
  if (type != "json_object" && type != "json_schema") {
    wrong("response_format.type",
          "must be \"text\", \"json_object\" or \"json_schema\", not \"" + type + "\"");
  }
  if (const Json* schema = outer.value("schema")) {
    return requested(schema_spec(*schema, outer.path("schema"), false), outer.path("schema"));
  }
  if (type == "json_object") {
    return requested(any_object(), "response_format");
  }
  const Json* named = outer.object("json_schema");
  const Fields inner(named == nullptr ? *format : *named, "response_format.json_schema.");
  const Json* schema = named == nullptr ? nullptr : inner.value("schema");
  const std::string path = inner.path("schema");
  if (schema == nullptr) {
    wrong(path, "is missing");
  }
  return requested(schema_spec(*schema, path, inner.boolean("strict").value_or(false)), path);
}

struct Form {
  const char* name;
  ConstraintSpec (*read)(const Json& value, const std::string& path);
};

// A grammar in either of the two notations that are in use: GBNF, which defines by "::=", or Lark.
ConstraintSpec grammar_spec(std::string text) {
  const bool is_gbnf = text.find("::=") != std::string::npos;
  return {is_gbnf ? ConstraintSpec::Kind::kGbnf : ConstraintSpec::Kind::kLark, std::move(text)};
}

ConstraintSpec read_schema(const Json& value, const std::string& path) {
  return schema_spec(value, path, false);
}
ConstraintSpec read_regex(const Json& value, const std::string& path) {
  return {ConstraintKind::kRegex, text_of(value, path)};
}
ConstraintSpec read_grammar(const Json& value, const std::string& path) {
  return grammar_spec(text_of(value, path));
}
ConstraintSpec read_object(const Json& value, const std::string& path) {
  if (value != Json(true)) {
    wrong(path, "must be true or absent");
  }
  return any_object();
}

constexpr std::array<Form, 9> kFields{{{"json_schema", read_schema},
                                       {"grammar", read_grammar},
                                       {"regex", read_regex},
                                       {"ebnf", read_grammar},
                                       {"guided_json", read_schema},
                                       {"guided_regex", read_regex},
                                       {"guided_choice", choice_spec},
                                       {"guided_grammar", read_grammar},
                                       {"guided_json_object", read_object}}};
constexpr std::array<Form, 5> kStructured{{{"json", read_schema},
                                           {"regex", read_regex},
                                           {"choice", choice_spec},
                                           {"grammar", read_grammar},
                                           {"json_object", read_object}}};

// A schema may also come as text.
Json form_schema(const Form& form) {
  if (form.read == read_schema) {
    return Json::parse(R"({"anyOf": [{"type": ["object", "null"]}, {"type": "string"}]})");
  }
  if (form.read == choice_spec) {
    return Json::parse(R"({"type": ["array", "null"], "minItems": 1,
                           "items": {"type": "string", "minLength": 1}})");
  }
  return {{"type", Json::array({form.read == read_object ? "boolean" : "string", "null"})}};
}

bool is_asked_for(const Json& value) { return value != Json(false) && value != Json(""); }

template <size_t Count>
void read_forms(const Fields& fields, const std::array<Form, Count>& forms,
                std::vector<RequestedConstraint>& found) {
  for (const Form& form : forms) {
    const Json* value = fields.value(form.name);
    if (value != nullptr && is_asked_for(*value)) {
      const std::string path = fields.path(form.name);
      found.push_back({form.read(*value, path), path});
    }
  }
}

}  // namespace

std::optional<RequestedConstraint> read_constraint(const Fields& fields) {
  std::vector<RequestedConstraint> found;
  if (auto format = read_response_format(fields)) {
    found.push_back(std::move(*format));
  }
  read_forms(fields, kFields, found);
  if (const Json* structured = fields.object("structured_outputs")) {
    read_forms(Fields(*structured, "structured_outputs."), kStructured, found);
  }
  if (found.size() > 1) {
    wrong(found[1].field, "and \"" + found[0].field + "\" both constrain the answer; send one");
  }
  return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

Json constraint_schema() {
  Json schema = request_schema(R"({
    "response_format": {"type": "object", "properties": {
      "type": {"enum": ["text", "json_object", "json_schema", null]},
      "schema": {"anyOf": [{"type": ["object", "null"]}, {"type": "string"}]},
      "json_schema": {"type": ["object", "null"], "properties": {"name": {"type": "string"},
        "schema": {"anyOf": [{"type": "object"}, {"type": "string"}]},
        "strict": {"type": ["boolean", "null"]}}}}},
    "structured_outputs": {"type": "object", "properties": {}}})");
  for (const Form& form : kFields) {
    schema["properties"][form.name] = form_schema(form);
  }
  for (const Form& form : kStructured) {
    schema["properties"]["structured_outputs"]["properties"][form.name] = form_schema(form);
  }
  return schema;
}

}  // namespace mlxr::openai
