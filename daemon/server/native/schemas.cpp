#include "daemon/server/native/schemas.h"

#include "daemon/server/embedding.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/openai/schemas.h"
#include "daemon/server/schema.h"

namespace mlxr::native {
namespace {

// llama-server's shape and vLLM's, the latter also with a chat.
Json tokenize_request() {
  Json schema = request_schema(R"({
    "model": {"type": "string"},
    "content": {"type": "string"},
    "add_special": {"type": "boolean"},
    "parse_special": {"type": "boolean"},
    "with_pieces": {"type": "boolean"},
    "prompt": {"type": "string"},
    "return_token_strs": {"type": "boolean"},
    "add_special_tokens": {"type": "boolean"},
    "add_generation_prompt": {"enum": [true, null]}})");
  Json chat = openai::schemas()["ChatRequest"];
  chat.erase("required");
  schema = extended(std::move(chat), schema);
  schema["anyOf"] = Json::parse(
      R"([{"required": ["content"]}, {"required": ["prompt"]}, {"required": ["messages"]}])");
  return schema;
}

Json rerank_request() {
  Json schema = request_schema(R"({
    "model": {"type": "string"},
    "query": {"type": "string", "minLength": 1},
    "documents": {"type": "array", "minItems": 1, "items": {"anyOf": [
      {"type": "string", "minLength": 1},
      {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}},
        "required": ["text"]}]}},
    "return_documents": {"type": "boolean"}})",
                               {"query", "documents"});
  schema["properties"]["documents"]["maxItems"] = kMaxTexts;
  schema["properties"]["top_n"] = or_null(integer_schema(1, INT32_MAX));
  return extended(std::move(schema), openai::scheduling_schema());
}

Json ranking() {
  Json schema = answer_schema(R"({"id": {"type": "string"}, "object": {"const": "list"},
    "model": {"type": "string"},
    "results": {"type": "array", "items": {"type": "object", "properties": {
      "index": {"type": "integer"}, "relevance_score": {"type": "number"},
      "document": {"type": "object", "properties": {"text": {"type": "string"}}}},
      "required": ["index", "relevance_score"]}}})",
                              {"id", "object", "model", "results", "usage"});
  schema["properties"]["usage"] = answer_schema(
      R"({"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}})",
      {"prompt_tokens", "total_tokens"});
  return schema;
}

constexpr const char* kModel = R"({
  "name": {"type": "string"}, "path": {"type": "string"}, "is_default": {"type": "boolean"},
  "loaded": {"type": "boolean"}, "format": {"type": "string"}, "architecture": {"type": "string"},
  "quantization": {"type": "string"}, "parameters": {"type": "integer"},
  "size_bytes": {"type": "integer"}, "context_length": {"type": "integer"},
  "memory_bytes": {"type": "integer"}, "error": {"type": "string"}})";

Json list_of(Json items) {
  Json schema = answer_schema(R"({"models": {"type": "array"}})", {"models"});
  schema["properties"]["models"]["items"] = std::move(items);
  return schema;
}

// Its size and shape are known once it is loaded.
Json adapter() {
  return answer_schema(R"({
    "id": {"type": "integer"}, "name": {"type": "string"}, "path": {"type": "string"},
    "scale": {"type": "number"}, "loaded": {"type": "boolean"}, "rank": {"type": "integer"},
    "targets": {"type": "array", "items": {"type": "string"}},
    "size_bytes": {"type": "integer"}})",
                       {"id", "name", "path", "scale", "loaded"});
}

Json array_of(Json items) { return {{"type", "array"}, {"items", std::move(items)}}; }

Json loaded_model() {
  Json schema =
      answer_schema(R"({
    "adapter_bytes": {"type": "integer"}, "adapters": {},
    "name": {"type": "string"}, "context_length": {"type": "integer"},
    "leaving": {"type": "boolean"}, "kv_bytes": {"type": "integer"}, "running": {"type": "integer"},
    "waiting": {"type": "integer"}, "loaded_at": {"type": "integer"},
    "load_seconds": {"type": "number"}, "quantization": {"type": "string"},
    "size_bytes": {"type": "integer"}, "pinned": {"type": "boolean"},
    "memory": {"type": "object", "properties": {
      "total_bytes": {"type": "integer"}, "weight_bytes": {"type": "integer"},
      "kv_bytes": {"type": "integer"}, "activation_bytes": {"type": "integer"},
      "other_bytes": {"type": "integer"}, "adapter_bytes": {"type": "integer"},
      "mapped_bytes": {"type": "integer"}}}})",
                    {"name", "context_length", "kv_bytes", "running", "waiting", "loaded_at",
                     "load_seconds", "quantization", "size_bytes", "adapter_bytes", "adapters"});
  schema["properties"]["adapters"] = array_of(adapter());
  return schema;
}

}  // namespace

Json schemas() {
  Json all;
  all["TokenizeRequest"] = tokenize_request();
  all["Tokens"] = answer_schema(R"({"tokens": {"type": "array"}, "count": {"type": "integer"},
    "max_model_len": {"type": "integer"}, "token_strs": {"type": ["array", "null"]}})",
                                {"tokens"});
  all["DetokenizeRequest"] = request_schema(
      R"({"model": {"type": "string"},
          "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0,
            "maximum": 2147483647}}})",
      {"tokens"});
  all["Text"] = answer_schema(R"({"prompt": {"type": "string"}, "content": {"type": "string"}})",
                              {"prompt", "content"});
  all["RerankRequest"] = rerank_request();
  all["Ranking"] = ranking();
  all["Health"] = answer_schema(R"({"status": {"type": "string"}, "version": {"type": "string"},
    "pid": {"type": "integer"}})",
                                {"status", "version", "pid"});
  all["NativeModel"] = answer_schema(kModel, {"name", "path", "is_default", "loaded"});
  all["NativeModelList"] = list_of(all["NativeModel"]);
  all["LoadedModel"] = loaded_model();
  all["LoadedModelList"] = extended(list_of(loaded_model()), Json::parse(R"({"properties": {
    "memory": {"type": "object", "properties": {
      "limit_bytes": {"type": "integer"}, "reserved_bytes": {"type": "integer"},
      "models_loading": {"type": "integer"}, "requests_waiting": {"type": "integer"},
      "loads": {"type": "integer"}, "failed_loads": {"type": "integer"},
      "refused_loads": {"type": "integer"}, "unloads": {"type": "object"}}}}})"));
  all["LoadRequest"] =
      request_schema(R"({"name": {"type": "string"}, "path": {"type": "string"}})");
  all["UnloadRequest"] =
      request_schema(R"({"name": {"type": "string", "minLength": 1}})", {"name"});
  all["Unloaded"] = answer_schema(
      R"({"name": {"type": "string"}, "unloaded": {"type": "boolean"}})", {"name", "unloaded"});
  all["LoraAdapter"] = adapter();
  all["LoraAdapters"] = array_of(adapter());
  all["LoraScales"] = openai::adapters_schema();
  all["LoraSuccess"] = answer_schema(R"({"success": {"const": true}})", {"success"});
  all["AdapterRequest"] = request_schema(
      R"({"model": {"type": "string"}, "path": {"type": "string"}, "name": {"type": "string"}})",
      {"path"});
  all["Trace"] = answer_schema(R"({"traceEvents": {"type": "array"},
    "displayTimeUnit": {"type": "string"}, "otherData": {"type": "object"}})",
                               {"traceEvents"});
  all["Status"] = answer_schema(R"({"status": {"type": "string"}})", {"status"});
  return all;
}

}  // namespace mlxr::native
