#include "daemon/server/schema.h"

#include <algorithm>

namespace mlxr {

Json or_null(Json schema) {
  const auto type = schema.find("type");
  if (type != schema.end() && type->is_string()) {
    *type = Json::array({*type, "null"});
    if (schema.contains("enum")) {
      schema["enum"].push_back(nullptr);
    }
  } else if (schema.contains("anyOf")) {
    schema["anyOf"].push_back(Json::parse(R"({"type": "null"})"));
  }
  return schema;
}

Json request_schema(const std::string& properties, const std::vector<std::string>& required) {
  Json schema{{"type", "object"}, {"properties", Json::parse(properties)}};
  for (auto& [name, property] : schema["properties"].items()) {
    if (std::find(required.begin(), required.end(), name) == required.end()) {
      property = or_null(std::move(property));
    }
  }
  if (!required.empty()) {
    schema["required"] = required;
  }
  return schema;
}

Json answer_schema(const std::string& properties, const std::vector<std::string>& required) {
  return {{"type", "object"}, {"properties", Json::parse(properties)}, {"required", required}};
}

Json extended(Json schema, const Json& more) {
  schema["properties"].update(more["properties"]);
  for (const Json& name : more.value("required", Json::array())) {
    schema["required"].push_back(name);
  }
  return schema;
}

Json number_schema(double lowest, double highest) {
  return {{"type", "number"}, {"minimum", lowest}, {"maximum", highest}};
}

Json integer_schema(int64_t lowest, int64_t highest) {
  return {{"type", "integer"}, {"minimum", lowest}, {"maximum", highest}};
}

}  // namespace mlxr
