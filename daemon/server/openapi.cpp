#include "daemon/server/openapi.h"

#include <algorithm>
#include <cctype>

#include "daemon/server/anthropic/schemas.h"
#include "daemon/server/native/schemas.h"
#include "daemon/server/ollama/schemas.h"
#include "daemon/server/openai/schemas.h"

namespace mlxr {
namespace {

// "/v1/models/{name...}" is "/v1/models/{name}": OpenAPI has no variable that holds slashes.
std::string path_of(const std::string& pattern) {
  constexpr std::string_view kRest = "...}";
  return pattern.ends_with(kRest) ? pattern.substr(0, pattern.size() - kRest.size()) + "}"
                                  : pattern;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// "get_v1_models_name"
std::string operation_id(const RouteInfo& route) {
  std::string id = lower(route.method);
  bool in_word = false;
  for (const char c : path_of(route.pattern)) {
    const bool is_word = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (is_word && !in_word) {
      id += '_';
    }
    if (is_word) {
      id += c;
    }
    in_word = is_word;
  }
  return id;
}

Json query_parameters(const std::string& schema, const Json& schemas) {
  Json parameters = Json::array();
  if (schema.empty()) {
    return parameters;
  }
  for (const auto& [name, property] : schemas[schema]["properties"].items()) {
    parameters.push_back({{"name", name}, {"in", "query"}, {"schema", property}});
  }
  return parameters;
}

Json parameters_of(const std::string& path) {
  Json parameters = Json::array();
  size_t end = 0;
  for (size_t begin = path.find('{'); begin != std::string::npos; begin = path.find('{', end)) {
    end = path.find('}', begin);
    parameters.push_back({{"name", path.substr(begin + 1, end - begin - 1)},
                          {"in", "path"},
                          {"required", true},
                          {"schema", {{"type", "string"}}}});
  }
  return parameters;
}

// Object by object: g++ 12 reads nested braces of two strings as a pair.
Json described(const char* what) {
  Json object = Json::object();
  object["description"] = what;
  return object;
}

Json reference(const std::string& schema) {
  Json object = Json::object();
  object["$ref"] = "#/components/schemas/" + schema;
  return object;
}

// Every API has errors of its own shape.
std::string error_schema(const RouteInfo& route) {
  if (route.pattern.starts_with("/api/")) {
    return "OllamaError";
  }
  return route.pattern.starts_with("/v1/messages") ? "AnthropicError" : "Error";
}

Json body_of(const std::string& schema) {
  Json body = Json::object();
  body["content"]["application/json"]["schema"] = reference(schema);
  return body;
}

Json error_of(const RouteInfo& route, const char* what) {
  Json error = described(what);
  error.update(body_of(error_schema(route)));
  return error;
}

Json answer_of(const RouteBodies& bodies) {
  Json answer = described("The answer");
  if (!bodies.answer.empty()) {
    answer.update(body_of(bodies.answer));
  }
  if (!bodies.stream.empty()) {
    answer["content"][bodies.stream]["schema"]["type"] = "string";
  }
  return answer;
}

Json responses_of(const RouteInfo& route) {
  Json responses = Json::object();
  responses["2XX"] = answer_of(route.bodies);
  if (route.access != Access::kOpen) {
    responses["401"] = error_of(route, "No API key, or one that is not known");
    responses["403"] = error_of(route, "The API key does not have the scope");
  }
  responses["default"] = error_of(route, "What is wrong");
  return responses;
}

Json security_of(Access access) {
  Json either = Json::array();
  if (access != Access::kOpen) {
    for (const char* scheme : {"bearer", "x-api-key"}) {
      Json need = Json::object();
      need[scheme] = Json::array();
      either.push_back(std::move(need));
    }
  }
  return either;
}

Json operation(const RouteInfo& route, const Json& schemas) {
  Json json = Json::object();
  json["operationId"] = operation_id(route);
  json["summary"] = route.summary;
  json["parameters"] = parameters_of(path_of(route.pattern));
  for (const Json& parameter : query_parameters(route.query, schemas)) {
    json["parameters"].push_back(parameter);
  }
  json["security"] = security_of(route.access);
  json["x-scope"] = route.access == Access::kAdmin       ? Json("admin")
                    : route.access == Access::kInference ? Json("inference")
                                                         : Json(nullptr);
  if (!route.bodies.request.empty()) {
    json["requestBody"] = body_of(route.bodies.request);
    json["requestBody"]["required"] = true;
  }
  if (route.reads_body_itself) {
    json["requestBody"]["content"]["application/octet-stream"] = Json::object();
  }
  json["responses"] = responses_of(route);
  return json;
}

Json security_schemes() {
  Json schemes = Json::object();
  Json& bearer = schemes["bearer"];
  bearer["type"] = "http";
  bearer["scheme"] = "bearer";
  Json& header = schemes["x-api-key"];
  header["type"] = "apiKey";
  header["in"] = "header";
  header["name"] = "x-api-key";
  return schemes;
}

}  // namespace

Json openapi_document(const std::vector<RouteInfo>& routes, const std::string& version,
                      Json schemas) {
  Json document = Json::object();
  document["openapi"] = "3.1.0";
  document["info"]["title"] = "MLXR";
  document["info"]["version"] = version;
  document["paths"] = Json::object();
  for (const RouteInfo& route : routes) {
    document["paths"][path_of(route.pattern)][lower(route.method)] = operation(route, schemas);
  }
  document["components"]["securitySchemes"] = security_schemes();
  document["components"]["schemas"] = std::move(schemas);
  return document;
}

Json all_schemas() {
  Json all = Json::object();
  all.update(openai::schemas());
  all.update(anthropic::schemas());
  all.update(ollama::schemas());
  all.update(native::schemas());
  return all;
}

}  // namespace mlxr
