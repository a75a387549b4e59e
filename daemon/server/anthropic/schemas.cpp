#include "daemon/server/anthropic/schemas.h"

#include "daemon/server/openai/request_options.h"
#include "daemon/server/schema.h"

namespace mlxr::anthropic {
namespace {

constexpr const char* kRequest = R"({
  "model": {"type": "string"},
  "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {
    "role": {"enum": ["user", "assistant"]},
    "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [
      {"type": "object", "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
        "required": ["type", "text"]},
      {"type": "object", "properties": {"type": {"const": "thinking"},
        "thinking": {"type": "string"}}, "required": ["type", "thinking"]},
      {"type": "object", "properties": {"type": {"const": "tool_use"}, "id": {"type": "string"},
        "name": {"type": "string"}, "input": {"type": "object"}},
        "required": ["type", "id", "name"]},
      {"type": "object", "properties": {"type": {"const": "tool_result"},
        "tool_use_id": {"type": "string"}, "content": {"type": ["string", "null"]},
        "is_error": {"type": ["boolean", "null"]}}, "required": ["type", "tool_use_id"]}]}}]}},
    "required": ["role", "content"]}},
  "system": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"]}}]},
  "stop_sequences": {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1}},
  "tools": {"type": "array", "items": {"type": "object", "properties": {
    "type": {"enum": ["custom", null]}, "name": {"type": "string"},
    "description": {"type": ["string", "null"]}, "input_schema": {"type": ["object", "null"]},
    "strict": {"type": ["boolean", "null"]}}, "required": ["name"]}},
  "tool_choice": {"type": "object", "properties": {"type": {"enum": ["auto", "any", "tool", "none"]},
    "name": {"type": "string"}, "disable_parallel_tool_use": {"type": ["boolean", "null"]}},
    "required": ["type"]},
  "thinking": {"type": "object", "properties": {"type": {"enum": ["enabled", "disabled", "adaptive"]}},
    "required": ["type"]},
  "output_config": {"type": "object", "properties": {"format": {},
    "effort": {"enum": ["low", "medium", "high", "xhigh", "max", null]}}},
  "output_format": {},
  "stream": {"type": "boolean"}})";

Json messages_request(const std::vector<std::string>& required) {
  Json schema = request_schema(kRequest, required);
  const Json format = Json::parse(R"({"type": ["object", "null"], "properties": {
    "type": {"enum": ["json_schema"]}, "schema": {"type": "object"}},
    "required": ["type", "schema"]})");
  schema["properties"]["output_config"]["properties"]["format"] = format;
  schema["properties"]["output_format"] = format;
  const Json shared = openai::options_schema()["properties"];
  for (const char* name : {"temperature", "top_p", "top_k", "context_shift", "n_keep", "priority",
                           "timeout", "cache_salt", "lora"}) {
    schema["properties"][name] = shared[name];
  }
  return schema;
}

}  // namespace

Json schemas() {
  Json all;
  all["MessagesRequest"] = messages_request({"model", "max_tokens", "messages"});
  all["CountTokensRequest"] = messages_request({"model", "messages"});
  all["Message"] = answer_schema(
      R"({
    "id": {"type": "string"}, "type": {"const": "message"}, "role": {"const": "assistant"},
    "model": {"type": "string"}, "content": {"type": "array", "minItems": 1, "items":
      {"type": "object", "properties": {"type": {"enum": ["text", "thinking", "tool_use"]}},
        "required": ["type"]}},
    "stop_reason": {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
    "stop_sequence": {"type": ["string", "null"]},
    "usage": {"type": "object", "properties": {"input_tokens": {"type": "integer"},
      "output_tokens": {"type": "integer"}}, "required": ["input_tokens", "output_tokens"]}})",
      {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"});
  all["TokenCount"] = answer_schema(R"({"input_tokens": {"type": "integer"}})", {"input_tokens"});
  all["AnthropicError"] = answer_schema(R"({"type": {"const": "error"},
    "error": {"type": "object", "properties": {"type": {"type": "string"},
      "message": {"type": "string"}}, "required": ["type", "message"]},
    "request_id": {"type": "string"}})",
                                        {"type", "error", "request_id"});
  return all;
}

}  // namespace mlxr::anthropic
