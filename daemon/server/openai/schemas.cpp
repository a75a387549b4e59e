#include "daemon/server/openai/schemas.h"

#include "daemon/server/embedding.h"
#include "daemon/server/openai/effort.h"
#include "daemon/server/openai/input_items.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/schema.h"

namespace mlxr::openai {
namespace {

// A content of text, whole or in parts.
constexpr const char* kContent = R"({"anyOf": [{"type": "string"}, {"type": "array", "items":
  {"anyOf": [
    {"type": "object", "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
      "required": ["text"]},
    {"type": "object", "properties": {"type": {"const": "refusal"},
      "refusal": {"type": "string"}}, "required": ["type", "refusal"]}]}}]})";

// The assistant's messages may be without a content, and nobody else's.
Json messages() {
  Json all = Json::parse(R"([
    {"type": "object", "properties": {
      "role": {"enum": ["system", "developer", "user", "tool"]}, "content": {}},
      "required": ["role", "content"]},
    {"type": "object", "properties": {"role": {"const": "assistant"}, "content": {},
      "reasoning_content": {"type": ["string", "null"]},
      "reasoning": {"type": ["string", "null"]},
      "thinking": {"type": ["string", "null"]},
      "tool_calls": {"type": ["array", "null"], "items": {"type": "object",
        "properties": {"function": {"type": "object",
          "properties": {"name": {"type": "string"},
            "arguments": {"type": ["string", "object"]}}, "required": ["name"]}},
        "required": ["function"]}}},
      "required": ["role"]}])");
  all[0]["properties"]["content"] = Json::parse(kContent);
  all[1]["properties"]["content"] = or_null(Json::parse(kContent));
  return all;
}

Json chat_request() {
  Json schema = request_schema(R"({
    "messages": {"type": "array", "minItems": 1, "items": {"anyOf": []}},
    "tools": {"type": "array", "items": {"type": "object",
      "properties": {"type": {"enum": ["function"]},
        "function": {"type": "object", "properties": {"name": {"type": "string"},
          "description": {"type": "string"}, "parameters": {"type": "object"},
          "strict": {"type": ["boolean", "null"]}}, "required": ["name"]}},
      "required": ["function"]}},
    "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]},
      {"type": "object", "properties": {"type": {"enum": ["function", null]},
        "function": {"type": "object",
        "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "required": ["function"]},
      {"type": "object", "properties": {"type": {"const": "allowed_tools"},
        "allowed_tools": {"type": "object", "properties": {
          "mode": {"enum": ["auto", "required", null]},
          "tools": {"type": "array", "items": {"type": "object", "properties": {
            "type": {"enum": ["function"]}, "function": {"type": "object",
              "properties": {"name": {"type": "string"}}, "required": ["name"]}},
            "required": ["function"]}}}, "required": ["tools"]}},
        "required": ["type", "allowed_tools"]}]},
    "parallel_tool_calls": {"type": "boolean"},
    "chat_template_kwargs": {"type": "object"},
    "continue_final_message": {"type": "boolean"},
    "add_generation_prompt": {"type": "boolean"},
    "truncation": {"enum": ["auto", "disabled", null]},
    "logprobs": {"type": "boolean"}})",
                               {"messages"});
  schema["properties"]["messages"]["items"]["anyOf"] = messages();
  schema["properties"]["top_logprobs"] = or_null(integer_schema(0, kMaxTopLogprobs));
  schema["properties"]["reasoning_effort"] = effort_schema();
  return extended(std::move(schema), options_schema());
}

Json completion_request() {
  Json schema = request_schema(R"({
    "prompt": {"anyOf": [{"type": "string"},
      {"type": "array", "minItems": 1, "items": {"type": "string"}},
      {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}},
      {"type": "array", "minItems": 1, "items":
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}}}]},
    "suffix": {"type": "string"},
    "echo": {"type": "boolean"}})",
                               {"prompt"});
  schema["properties"]["best_of"] = or_null(integer_schema(1, kMaxChoices));
  schema["properties"]["logprobs"] = or_null(integer_schema(0, kMaxTopLogprobs));
  schema = extended(std::move(schema), options_schema());
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    schema["properties"][name] = or_null(integer_schema(0, INT32_MAX));
  }
  return schema;
}

constexpr const char* kResponseRequest = R"({
  "model": {"type": "string"},
  "input": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items":
    {"anyOf": [
      {"type": "object", "title": "message", "properties": {
        "type": {"enum": ["message"]}, "id": {"type": ["string", "null"]},
        "role": {"enum": ["user", "assistant", "system", "developer"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items":
          {"type": "object", "properties": {
            "type": {"enum": ["input_text", "output_text", "text", "refusal"]},
            "text": {"type": "string"}, "refusal": {"type": "string"}}, "required": ["type"]}}]}},
        "required": ["role", "content"]},
      {"type": "object", "title": "function_call", "properties": {
        "type": {"enum": ["function_call"]}, "id": {"type": ["string", "null"]},
        "call_id": {"type": "string"}, "name": {"type": "string"},
        "arguments": {"type": "string"}}, "required": ["type", "call_id", "name", "arguments"]},
      {"type": "object", "title": "function_call_output", "properties": {
        "type": {"enum": ["function_call_output"]}, "id": {"type": ["string", "null"]},
        "call_id": {"type": "string"}, "output": {"anyOf": [{"type": "string"},
          {"type": "array", "items": {"type": "object", "properties": {
            "type": {"enum": ["input_text"]}, "text": {"type": "string"}},
            "required": ["type", "text"]}}]}}, "required": ["type", "call_id", "output"]},
      {"type": "object", "title": "reasoning", "properties": {
        "type": {"enum": ["reasoning"]}, "id": {"type": ["string", "null"]},
        "content": {"type": ["array", "null"], "items": {"type": "object", "properties": {
          "type": {"enum": ["reasoning_text"]}, "text": {"type": "string"}},
          "required": ["type", "text"]}},
        "summary": {"type": ["array", "null"], "items": {"type": "object", "properties": {
          "type": {"enum": ["summary_text"]}, "text": {"type": "string"}},
          "required": ["type", "text"]}}}, "required": ["type"]}]}}]},
  "instructions": {"type": "string"},
  "previous_response_id": {"type": "string"},
  "store": {"type": "boolean"},
  "stream": {"type": "boolean"},
  "metadata": {"type": "object", "maxProperties": 16,
    "additionalProperties": {"type": "string"}},
  "tools": {"type": "array", "items": {"type": "object", "properties": {
    "type": {"enum": ["function"]}, "name": {"type": "string", "minLength": 1},
    "description": {"type": ["string", "null"]}, "parameters": {"type": ["object", "null"]},
    "strict": {"type": ["boolean", "null"]}}, "required": ["type", "name"]}},
  "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object",
    "properties": {"type": {"enum": ["function", "allowed_tools"]}, "name": {"type": "string"},
      "mode": {"enum": ["auto", "required"]}, "tools": {"type": "array", "items":
        {"type": "object", "properties": {"type": {"enum": ["function"]},
          "name": {"type": "string"}}, "required": ["name"]}}}, "required": ["type"]}]},
  "parallel_tool_calls": {"type": "boolean"},
  "text": {"type": "object", "properties": {"format": {"type": ["object", "null"], "properties": {
    "type": {"enum": ["text", "json_object", "json_schema"]}, "name": {"type": "string"},
    "schema": {"type": "object"}, "strict": {"type": ["boolean", "null"]}}}}},
  "reasoning": {"type": "object", "properties": {"effort": {}}},
  "include": {"type": "array", "items": {"type": "string"}},
  "truncation": {"enum": ["auto", "disabled", null]},
  "chat_template_kwargs": {"type": "object"},
  "service_tier": {"type": "string"},
  "safety_identifier": {"type": "string"},
  "prompt_cache_key": {"type": "string"},
  "user": {"type": "string"}})";

Json response_request() {
  Json schema = request_schema(kResponseRequest, {"input"});
  Json& properties = schema["properties"];
  const Json shared = options_schema()["properties"];
  properties["reasoning"]["properties"]["effort"] = effort_schema();
  properties["max_output_tokens"] = shared["max_tokens"];
  properties["top_logprobs"] = or_null(integer_schema(0, kMaxTopLogprobs));
  for (const char* name :
       {"temperature", "top_p", "seed", "top_k", "min_p", "presence_penalty", "frequency_penalty",
        "stop", "repeat_penalty", "ignore_eos", "context_shift", "n_keep", "priority", "timeout",
        "cache_salt", "lora"}) {
    properties[name] = shared[name];
  }
  return schema;
}

constexpr const char* kUsage = R"({"type": "object", "properties": {
  "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
  "total_tokens": {"type": "integer"}, "prompt_tokens_details": {"type": "object",
    "properties": {"cached_tokens": {"type": "integer"}}, "required": ["cached_tokens"]},
  "completion_tokens_details": {"type": "object",
    "properties": {"reasoning_tokens": {"type": "integer"}}, "required": ["reasoning_tokens"]}},
  "required": ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
    "completion_tokens_details"]})";

Json completion_like(const char* object, const char* choice) {
  Json schema = answer_schema(R"({
    "id": {"type": "string"}, "object": {}, "created": {"type": "integer"},
    "model": {"type": "string"}, "choices": {"type": "array", "minItems": 1}, "usage": {}})",
                              {"id", "object", "created", "model", "choices", "usage"});
  schema["properties"]["object"]["const"] = object;
  schema["properties"]["choices"]["items"] = Json::parse(choice);
  schema["properties"]["usage"] = Json::parse(kUsage);
  return schema;
}

constexpr const char* kChatChoice = R"({"type": "object", "properties": {
  "index": {"type": "integer"}, "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
  "logprobs": {"type": ["object", "null"], "properties": {"refusal": {"type": "null"},
    "content": {"type": "array", "items": {"type": "object", "properties": {
      "token": {"type": "string"}, "logprob": {"type": "number"},
      "bytes": {"type": "array", "items": {"type": "integer"}},
      "top_logprobs": {"type": "array", "items": {"type": "object", "properties": {
        "token": {"type": "string"}, "logprob": {"type": "number"},
        "bytes": {"type": "array", "items": {"type": "integer"}}},
        "required": ["token", "logprob", "bytes"]}}},
      "required": ["token", "logprob", "bytes", "top_logprobs"]}}}, "required": ["content"]},
  "message": {"type": "object", "properties": {"role": {"const": "assistant"},
    "content": {"type": ["string", "null"]}, "refusal": {"type": "null"},
    "reasoning_content": {"type": "string"}, "reasoning": {"type": "string"},
    "tool_calls": {"type": "array", "items": {"type": "object", "properties": {
      "id": {"type": "string"}, "type": {"const": "function"},
      "function": {"type": "object", "properties": {"name": {"type": "string"},
        "arguments": {"type": "string"}}, "required": ["name", "arguments"]}},
      "required": ["id", "type", "function"]}}}, "required": ["role", "content"]}},
  "required": ["index", "message", "finish_reason", "logprobs"]})";

constexpr const char* kTextChoice = R"({"type": "object", "properties": {
  "index": {"type": "integer"}, "text": {"type": "string"},
  "finish_reason": {"enum": ["stop", "length"]},
  "logprobs": {"type": ["object", "null"], "properties": {
    "tokens": {"type": "array", "items": {"type": "string"}},
    "token_logprobs": {"type": "array", "items": {"type": ["number", "null"]}},
    "top_logprobs": {"type": "array", "items": {"type": ["object", "null"],
      "additionalProperties": {"type": "number"}}},
    "text_offset": {"type": "array", "items": {"type": "integer"}}},
    "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"]}},
  "required": ["index", "text", "finish_reason", "logprobs"]})";

Json response() {
  return answer_schema(
      R"({
    "id": {"type": "string"}, "object": {"const": "response"}, "created_at": {"type": "integer"},
    "status": {"enum": ["completed", "incomplete"]}, "model": {"type": "string"},
    "error": {"type": "null"}, "incomplete_details": {"type": ["object", "null"]},
    "output": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {
      "id": {"type": "string"}, "type": {"enum": ["message", "reasoning", "function_call"]},
      "status": {"enum": ["completed", "incomplete"]}}, "required": ["id", "type", "status"]}},
    "instructions": {"type": ["string", "null"]}, "max_output_tokens": {"type": ["integer", "null"]},
    "metadata": {"type": "object"}, "previous_response_id": {"type": ["string", "null"]},
    "reasoning": {"type": "object"}, "store": {"type": "boolean"}, "text": {"type": "object"},
    "tools": {"type": "array"}, "temperature": {"type": "number"}, "top_p": {"type": "number"},
    "usage": {"type": "object", "properties": {"input_tokens": {"type": "integer"},
      "output_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
      "required": ["input_tokens", "output_tokens", "total_tokens"]}})",
      {"id", "object", "created_at", "status", "model", "error", "incomplete_details", "output",
       "instructions", "metadata", "store", "text", "tools", "temperature", "top_p", "usage"});
}

Json list_of(Json items) {
  Json schema = answer_schema(R"({"object": {"const": "list"}, "data": {"type": "array"}})",
                              {"object", "data"});
  schema["properties"]["data"]["items"] = std::move(items);
  return schema;
}

// Text, texts, tokens, or texts of tokens.
constexpr const char* kTexts = R"({"anyOf": [{"type": "string", "minLength": 1},
  {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
  {"type": "array", "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}},
  {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}}}]})";

Json embedding_request() {
  Json schema = request_schema(R"({
    "model": {"type": "string"},
    "input": {},
    "encoding_format": {"type": "string", "enum": ["float", "base64"]}})",
                               {"input"});
  schema["properties"]["input"] = Json::parse(kTexts);
  for (const size_t lists : {size_t{1}, size_t{3}}) {
    schema["properties"]["input"]["anyOf"][lists]["maxItems"] = kMaxTexts;
  }
  schema["properties"]["dimensions"] = or_null(integer_schema(1, INT32_MAX));
  return extended(std::move(schema), scheduling_schema());
}

Json embedding_list() {
  Json schema = list_of(answer_schema(
      R"({"object": {"const": "embedding"}, "index": {"type": "integer"},
          "embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}},
            {"type": "string", "contentEncoding": "base64"}]}})",
      {"object", "index", "embedding"}));
  schema["properties"]["model"]["type"] = "string";
  schema["properties"]["usage"] = answer_schema(
      R"({"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}})",
      {"prompt_tokens", "total_tokens"});
  schema["required"].push_back("model");
  schema["required"].push_back("usage");
  return schema;
}

Json model_object() {
  return answer_schema(R"({"id": {"type": "string"}, "object": {"const": "model"},
    "created": {"type": "integer"}, "owned_by": {"type": "string"},
    "context_length": {"type": "integer"}})",
                       {"id", "object", "created", "owned_by", "context_length"});
}

Json deleted(const char* object) {
  Json schema =
      answer_schema(R"({"id": {"type": "string"}, "object": {}, "deleted": {"const": true}})",
                    {"id", "object", "deleted"});
  schema["properties"]["object"]["const"] = object;
  return schema;
}

}  // namespace

Json schemas() {
  Json all;
  all["EmbeddingRequest"] = embedding_request();
  all["EmbeddingList"] = embedding_list();
  all["ChatRequest"] = chat_request();
  all["ChatCompletion"] = completion_like("chat.completion", kChatChoice);
  all["CompletionRequest"] = completion_request();
  all["Completion"] = completion_like("text_completion", kTextChoice);
  all["ResponseRequest"] = response_request();
  all["Response"] = response();
  all["ResponseDeleted"] = deleted("response");
  all["InputItems"] = extended(list_of(Json::parse(R"({"type": "object"})")),
                               answer_schema(R"({
    "first_id": {"type": ["string", "null"]}, "last_id": {"type": ["string", "null"]},
    "has_more": {"type": "boolean"}})",
                                             {"first_id", "last_id", "has_more"}));
  all["InputItemsQuery"] = items_query_schema();
  all["InputTokens"] = answer_schema(
      R"({"object": {"const": "response.input_tokens"}, "input_tokens": {"type": "integer"}})",
      {"object", "input_tokens"});
  all["Model"] = model_object();
  all["ModelDeleted"] = deleted("model");
  all["ModelList"] = list_of(model_object());
  all["Error"] = answer_schema(R"({"error": {"type": "object", "properties": {
    "message": {"type": "string"}, "type": {"type": "string"},
    "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}},
    "required": ["message", "type", "param", "code"]}})",
                               {"error"});
  return all;
}

}  // namespace mlxr::openai
