#include "core/runtime/chat/tool_parsers/tool_schemas.h"

#include <algorithm>
#include <vector>

namespace mlxr {
namespace {

using Json = nlohmann::ordered_json;

const Json* member(const Json* object, const char* name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto found = object->find(name);
  return found == object->end() ? nullptr : &*found;
}

constexpr int kDeepest = 16;  // references and choices that lead to others

std::string type_of(const Json& value) {
  return value.is_number_integer() ? "integer" : value.is_array() ? "array" : value.type_name();
}

// `root`: the schema of all arguments, which references are about.
std::vector<std::string> types_of(const Json& schema, const Json& root, int depth = 0) {
  std::vector<std::string> types;
  if (depth > kDeepest) return types;
  const Json* type = member(&schema, "type");
  if (type != nullptr && type->is_string()) types.push_back(type->get<std::string>());
  if (type != nullptr && type->is_array()) {
    for (const Json& one : *type) {
      if (one.is_string()) types.push_back(one.get<std::string>());
    }
  }
  if (!types.empty()) return types;
  const auto add = [&](const Json& one) {
    for (std::string& inner : types_of(one, root, depth + 1)) types.push_back(std::move(inner));
  };
  for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
    const Json* schemas = member(&schema, choice);
    if (schemas == nullptr || !schemas->is_array()) continue;
    for (const Json& one : *schemas) add(one);
  }
  if (const Json* values = member(&schema, "enum"); values != nullptr && values->is_array()) {
    for (const Json& value : *values) types.push_back(type_of(value));
  }
  if (const Json* value = member(&schema, "const")) types.push_back(type_of(*value));
  const Json* pointer = member(&schema, "$ref");
  if (pointer == nullptr || !pointer->is_string()) return types;
  const std::string path = pointer->get<std::string>();
  if (!path.starts_with("#/")) return types;
  const Json* at = &root;
  for (size_t begin = 2; at != nullptr && begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    at = member(at, path.substr(begin, end - begin).c_str());
    begin = end + 1;
  }
  if (at != nullptr) add(*at);
  return types;
}

bool fits(const Json& value, const std::string& type) {
  return (type == "integer" && value.is_number_integer()) ||
         (type == "number" && value.is_number()) || (type == "boolean" && value.is_boolean()) ||
         (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
         (type == "null" && value.is_null());
}

Json parsed(const std::string& text) {
  if (text == "True") return true;
  if (text == "False") return false;
  if (text == "None") return nullptr;
  return Json::parse(text, nullptr, false);
}

std::string dumped(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

ToolSchemas::ToolSchemas(const Json& tools) {
  if (!tools.is_array()) return;
  for (const Json& tool : tools) {
    const Json* function = member(&tool, "function");
    const Json* name = member(function, "name");
    if (name == nullptr || !name->is_string()) continue;
    names_.insert(name->get<std::string>());
    const Json* parameters = member(function, "parameters");
    if (parameters != nullptr) schemas_[name->get<std::string>()] = *parameters;
  }
}

std::vector<std::string> ToolSchemas::types(const std::string& function,
                                            const std::string& argument) const {
  const Json* root = member(&schemas_, function.c_str());
  const Json* schema = member(member(root, "properties"), argument.c_str());
  return schema == nullptr ? std::vector<std::string>{} : types_of(*schema, *root);
}

bool ToolSchemas::wants_no_string(const std::string& function, const std::string& argument) const {
  const std::vector<std::string> types = this->types(function, argument);
  return !types.empty() && std::find(types.begin(), types.end(), "string") == types.end();
}

std::string ToolSchemas::typed(const std::string& function, const std::string& argument,
                               const std::string& text) const {
  const std::vector<std::string> types = this->types(function, argument);
  const Json value = parsed(text);
  // Without a type, what reads as an object or a list is one.
  const bool is_typed =
      types.empty() ? value.is_structured()
                    : std::any_of(types.begin(), types.end(),
                                  [&](const std::string& type) { return fits(value, type); });
  return is_typed && !value.is_discarded() ? dumped(value) : dumped(Json(text));
}

}  // namespace mlxr
