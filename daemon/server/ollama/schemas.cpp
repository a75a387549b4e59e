#include "daemon/server/ollama/schemas.h"

#include "daemon/server/embedding.h"
#include "daemon/server/ollama/options.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/schema.h"

namespace mlxr::ollama {
namespace {

// What chat and generate share.
Json shared_request() {
  Json schema = request_schema(R"({
    "model": {"type": "string", "minLength": 1},
    "name": {"type": "string"},
    "stream": {"type": "boolean"},
    "truncate": {"type": "boolean"},
    "shift": {"type": "boolean"},
    "format": {"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]},
    "keep_alive": {"anyOf": [{"type": "number"},
      {"type": "string", "pattern": "^-?([0-9]+(\\.[0-9]+)?(h|m|s|ms))+$"}]},
    "think": {"anyOf": [{"type": "boolean"}, {"enum": ["", "low", "medium", "high"]}]},
    "logprobs": {"type": "boolean"}})",
                               {"model"});
  schema["properties"]["top_logprobs"] = or_null(integer_schema(0, openai::kMaxTopLogprobs));
  schema["properties"]["options"] = or_null(options_schema());
  for (const char* name : {"priority", "timeout", "cache_salt", "lora"}) {
    schema["properties"][name] = openai::options_schema()["properties"][name];
  }
  return schema;
}

Json chat_request() {
  return extended(request_schema(R"({
    "messages": {"type": "array", "items": {"type": "object", "properties": {
      "role": {"enum": ["system", "user", "assistant", "tool"]},
      "content": {"type": "string"}, "thinking": {"type": ["string", "null"]},
      "tool_name": {"type": ["string", "null"]},
      "images": {"type": ["array", "null"], "maxItems": 0},
      "tool_calls": {"type": ["array", "null"], "items": {"type": "object", "properties": {
        "function": {"type": "object", "properties": {"name": {"type": "string"},
          "arguments": {"type": "object"}}, "required": ["name"]}}, "required": ["function"]}}},
      "required": ["role", "content"]}},
    "tools": {"type": "array", "items": {"type": "object", "properties": {
      "type": {"enum": ["function"]}, "function": {"type": "object", "properties": {
        "name": {"type": "string"}, "description": {"type": "string"},
        "parameters": {"type": "object"}}, "required": ["name"]}}, "required": ["function"]}}})"),
                  shared_request());
}

Json generate_request() {
  return extended(request_schema(R"({
    "prompt": {"type": "string"}, "suffix": {"type": "string"}, "system": {"type": "string"},
    "raw": {"type": "boolean"},
    "context": {"type": "array", "items": {"type": "integer", "minimum": 0,
      "maximum": 2147483647}}})"),
                  shared_request());
}

// What requests for vectors share with those for answers.
Json embed_request(const char* own) {
  Json shared = shared_request();
  for (const char* name :
       {"stream", "format", "think", "truncate", "shift", "logprobs", "top_logprobs"}) {
    shared["properties"].erase(name);
  }
  return extended(request_schema(own), shared);
}

Json create_request() {
  Json schema = request_schema(R"({
    "model": {"type": "string", "minLength": 1}, "name": {"type": "string"},
    "from": {"type": "string"},
    "files": {"type": "object", "additionalProperties":
      {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}},
    "adapters": {"type": "object", "additionalProperties":
      {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}},
    "template": {"type": "string"}, "system": {"type": "string"},
    "license": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "messages": {"type": "array", "items": {"type": "object", "properties": {
      "role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
      "required": ["role", "content"]}},
    "stream": {"type": "boolean"}})",
                               {"model"});
  schema["properties"]["parameters"] = or_null(options_schema());
  return schema;
}

constexpr const char* kLogprobs = R"({"type": "array", "items": {"type": "object", "properties": {
  "token": {"type": "string"}, "logprob": {"type": "number"},
  "bytes": {"type": "array", "items": {"type": "integer"}},
  "top_logprobs": {"type": "array", "items": {"type": "object", "properties": {
    "token": {"type": "string"}, "logprob": {"type": "number"},
    "bytes": {"type": "array", "items": {"type": "integer"}}},
    "required": ["token", "logprob", "bytes"]}}},
  "required": ["token", "logprob", "bytes"]}})";

Json end_of_answer(const char* own, const std::string& name) {
  Json schema = extended(answer_schema(own, {name}),
                         answer_schema(R"({
    "model": {"type": "string"}, "created_at": {"type": "string", "format": "date-time"},
    "done": {"const": true}, "done_reason": {"enum": ["stop", "length", "load", "unload"]},
    "total_duration": {"type": "integer"}, "load_duration": {"type": "integer"},
    "prompt_eval_count": {"type": "integer"}, "prompt_eval_duration": {"type": "integer"},
    "eval_count": {"type": "integer"}, "eval_duration": {"type": "integer"}})",
                                       {"model", "created_at", "done", "done_reason"}));
  schema["properties"]["logprobs"] = Json::parse(kLogprobs);
  return schema;
}

constexpr const char* kDetails = R"({"type": "object", "properties": {
  "format": {"type": "string"}, "family": {"type": "string"},
  "families": {"type": "array", "items": {"type": "string"}},
  "parameter_size": {"type": "string"}, "quantization_level": {"type": "string"}},
  "required": ["format", "family", "families", "parameter_size", "quantization_level"]})";

Json model_list(const std::vector<std::string>& required) {
  Json model = answer_schema(R"({
    "name": {"type": "string"}, "model": {"type": "string"},
    "modified_at": {"type": "string", "format": "date-time"}, "size": {"type": "integer"},
    "digest": {"type": "string"}, "details": {}, "size_vram": {"type": "integer"},
    "expires_at": {"type": "string", "format": "date-time"},
    "context_length": {"type": "integer"}})",
                             required);
  model["properties"]["details"] = Json::parse(kDetails);
  Json schema = answer_schema(R"({"models": {"type": "array"}})", {"models"});
  schema["properties"]["models"]["items"] = std::move(model);
  return schema;
}

Json show_answer() {
  Json schema = answer_schema(R"({
    "modelfile": {"type": "string"}, "parameters": {"type": "string"},
    "template": {"type": "string"}, "details": {}, "model_info": {"type": "object"},
    "capabilities": {"type": "array", "items": {"type": "string"}},
    "modified_at": {"type": "string", "format": "date-time"}})",
                              {"modelfile", "parameters", "template", "details", "model_info",
                               "capabilities", "modified_at"});
  schema["properties"]["details"] = Json::parse(kDetails);
  return schema;
}

}  // namespace

Json schemas() {
  Json all;
  all["OllamaChatRequest"] = chat_request();
  all["OllamaChat"] = end_of_answer(R"({"message": {"type": "object", "properties": {
    "role": {"const": "assistant"}, "content": {"type": "string"},
    "thinking": {"type": "string"}, "tool_calls": {"type": "array"}},
    "required": ["role", "content"]}})",
                                    "message");
  all["OllamaGenerateRequest"] = generate_request();
  all["OllamaGenerate"] = end_of_answer(
      R"({"response": {"type": "string"}, "thinking": {"type": "string"},
          "context": {"type": "array", "items": {"type": "integer"}}})",
      "response");
  all["OllamaEmbedRequest"] = embed_request(R"({
    "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "truncate": {"type": "boolean"},
    "dimensions": {"type": "integer", "minimum": 0, "maximum": 2147483647}})");
  all["OllamaEmbedRequest"]["properties"]["input"]["anyOf"][1]["maxItems"] = kMaxTexts;
  all["OllamaEmbeddings"] = answer_schema(
      R"({"model": {"type": "string"},
    "embeddings": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "total_duration": {"type": "integer"}, "load_duration": {"type": "integer"},
    "prompt_eval_count": {"type": "integer"}})",
      {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"});
  all["OllamaEmbeddingRequest"] = embed_request(R"({"prompt": {"type": "string"}})");
  all["OllamaEmbedding"] = answer_schema(
      R"({"embedding": {"type": "array", "items": {"type": "number"}}})", {"embedding"});
  all["OllamaTags"] = model_list({"name", "model", "modified_at", "size", "digest", "details"});
  all["OllamaPs"] = model_list(
      {"name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"});
  all["OllamaShowRequest"] = request_schema(
      R"({"model": {"type": "string", "minLength": 1}, "name": {"type": "string"}})", {"model"});
  all["OllamaCreateRequest"] = create_request();
  all["OllamaCopyRequest"] = request_schema(
      R"({"source": {"type": "string", "minLength": 1},
          "destination": {"type": "string", "minLength": 1}})",
      {"source", "destination"});
  all["OllamaShow"] = show_answer();
  all["OllamaVersion"] = answer_schema(
      R"({"version": {"type": "string"}, "mlxr": {"type": "string"}})", {"version", "mlxr"});
  all["OllamaError"] = answer_schema(R"({"error": {"type": "string"}})", {"error"});
  return all;
}

}  // namespace mlxr::ollama
