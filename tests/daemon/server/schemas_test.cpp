// The description of the API against the readers: what a reader looks for is described, and what is
// described is looked for.
#include "daemon/server/openapi.h"

#include <gtest/gtest.h>

#include <functional>

#include "daemon/server/anthropic/request.h"
#include "daemon/server/field_log.h"
#include "daemon/server/native/rerank.h"
#include "daemon/server/native/tokenize.h"
#include "daemon/server/ollama/create.h"
#include "daemon/server/ollama/embed_request.h"
#include "daemon/server/ollama/requests.h"
#include "daemon/server/openai/chat_request.h"
#include "daemon/server/openai/completion_request.h"
#include "daemon/server/openai/embedding_request.h"
#include "daemon/server/openai/response_request.h"

namespace mlxr {
namespace {

struct Reader {
  const char* schema;
  std::function<void(const std::string& body)> read;
  std::vector<std::string> bodies;  // together they take the reader everywhere
};

const char* kTools = R"("tools":[{"type":"function","function":{"name":"f"}}])";

const std::vector<Reader>& readers() {
  static const std::vector<Reader> all{
      {"ChatRequest",
       [](const std::string& body) { openai::read_chat_request(body); },
       {std::string(R"({"messages":[{"role":"assistant","content":[{"text":"a"}],"tool_calls":
            [{"function":{"name":"f","arguments":"{}"}}]}],"stream_options":{},)") +
            kTools + R"(,"tool_choice":{"function":{"name":"f"}},"response_format":
            {"type":"json_schema","json_schema":{"schema":{}}}})",
        R"({"messages":[{"role":"user","content":[{"type":"refusal","refusal":"a"}]}],
            "structured_outputs":{}})",
        std::string(R"({"messages":[{"role":"user","content":"a"}],)") + kTools +
            R"(,"tool_choice":{"type":"allowed_tools",
                "allowed_tools":{"tools":[{"function":{"name":"f"}}]}}})"}},
      {"CompletionRequest",
       [](const std::string& body) { openai::read_completion_request(body); },
       {R"({"prompt":"a","lora":[{"id":0}]})"}},
      {"EmbeddingRequest",
       [](const std::string& body) { openai::read_embedding_request(body); },
       {R"({"input":"a"})"}},
      {"RerankRequest",
       [](const std::string& body) { native::read_rerank_request(body); },
       {R"({"query":"q","documents":["a",{"text":"b"}]})"}},
      {"OllamaEmbedRequest",
       [](const std::string& body) { ollama::read_embed_request(body, false); },
       {R"({"model":"m","input":"a","options":{"num_ctx":5}})", R"({"name":"m"})"}},
      {"OllamaEmbeddingRequest",
       [](const std::string& body) { ollama::read_embed_request(body, true); },
       {R"({"model":"m","prompt":"a"})", R"({"name":"m"})"}},
      {"ResponseRequest",
       [](const std::string& body) {
         openai::read_response_request(body, [](const std::string&) { return Json::array(); });
       },
       {R"({"input":"a","text":{"format":{"type":"json_schema","schema":{}}},"reasoning":{},
            "tools":[{"type":"function","name":"f"}],
            "tool_choice":{"type":"allowed_tools","tools":[{"name":"f"}]}})",
        R"({"input":[{"type":"reasoning"},{"role":"assistant","content":"a"},
            {"role":"user","content":[{"type":"input_text","text":"a"},
                                      {"type":"refusal","refusal":"a"}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":"o"}],
            "tools":[{"type":"function","name":"f"}],
            "tool_choice":{"type":"function","name":"f"}})"}},
      {"OllamaChatRequest",
       [](const std::string& body) { ollama::read_chat_request(body); },
       {R"({"model":"m","messages":[{"role":"user","content":"a"}],
            "options":{"num_predict":1,"tfs_z":1,"penalize_newline":true}})",
        R"({"name":"m"})"}},
      {"OllamaGenerateRequest",
       [](const std::string& body) { ollama::read_generate_request(body); },
       {R"({"model":"m","prompt":"a"})", R"({"name":"m"})"}},
      {"OllamaCreateRequest",
       [](const std::string& body) { ollama::read_create_request(body); },
       {R"({"model":"m","from":"n","messages":[{"role":"user","content":"a"}]})",
        R"({"name":"m","from":"n"})"}},
      {"OllamaCopyRequest",
       [](const std::string& body) { ollama::read_copy_request(body); },
       {R"({"source":"a","destination":"b"})"}},
      {"MessagesRequest",
       [](const std::string& body) { anthropic::read_messages_request(body, false); },
       {R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}],
            "tools":[{"name":"f"}],"tool_choice":{"type":"tool","name":"f"},
            "thinking":{"type":"enabled"}})",
        R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}],
            "output_config":{"effort":"low"}})"}},
      {"TokenizeRequest",
       [](const std::string& body) { native::read_tokenize_request(body); },
       {R"({"content":"a"})", R"({"prompt":"a"})",
        R"({"messages":[{"role":"user","content":"a"}]})"}},
      {"DetokenizeRequest",
       [](const std::string& body) { native::read_detokenize_request(body); },
       {R"({"tokens":[1]})"}},
  };
  return all;
}

std::set<std::string> looked_for(const Reader& reader) {
  const FieldLog log;
  for (const std::string& body : reader.bodies) {
    reader.read(body);
  }
  return log.paths();
}

// Every schema that `schema` may mean in its place: itself, its alternatives.
void collect(const Json& schema, std::vector<Json>& found) {
  found.push_back(schema);
  for (const Json& one : schema.value("anyOf", Json::array())) {
    collect(one, found);
  }
}

// "messages[].role" in a schema.
bool describes(const Json& schema, const std::string& path) {
  const size_t end = path.find_first_of(".[");
  const std::string name = path.substr(0, end);
  std::vector<Json> places;
  collect(schema, places);
  for (const Json& place : places) {
    const Json properties = place.value("properties", Json::object());
    if (!properties.contains(name)) {
      continue;
    }
    if (end == std::string::npos) {
      return true;
    }
    std::string rest = path.substr(end);
    std::vector<Json> inner;
    collect(properties[name], inner);
    while (rest.starts_with("[]")) {
      std::vector<Json> items;
      for (const Json& one : inner) {
        collect(one.value("items", Json::object()), items);
      }
      inner = std::move(items);
      rest.erase(0, 2);
    }
    for (const Json& one : inner) {
      if (rest.empty() || describes(one, rest.substr(1))) {
        return true;
      }
    }
  }
  return false;
}

TEST(Schemas, DescribeEveryFieldThatAReaderLooksFor) {
  const Json schemas = all_schemas();
  for (const Reader& reader : readers()) {
    for (const std::string& path : looked_for(reader)) {
      EXPECT_TRUE(describes(schemas[reader.schema], path)) << reader.schema << " lacks " << path;
    }
  }
}

TEST(Schemas, DescribeNoFieldThatNoReaderLooksFor) {
  const Json schemas = all_schemas();
  for (const Reader& reader : readers()) {
    const std::set<std::string> fields = looked_for(reader);
    EXPECT_GE(fields.size(), 2U);
    for (const auto& [name, schema] : schemas[reader.schema]["properties"].items()) {
      EXPECT_TRUE(fields.contains(name)) << reader.schema << " describes " << name;
    }
  }
}

TEST(Schemas, AreAllThatRoutesName) {
  const Json schemas = all_schemas();
  for (const auto& [name, schema] : schemas.items()) {
    EXPECT_TRUE(schema["type"] == "object" || schema["type"] == "array") << name;
    for (const Json& required : schema.value("required", Json::array())) {
      EXPECT_TRUE(schema["properties"].contains(required.get<std::string>())) << name << required;
    }
  }
}

TEST(FieldLog, NotesPathsWithoutIndexesWhileItLives) {
  const Json body = Json::parse(R"({"a":[{"b":1}]})");
  std::set<std::string> paths;
  {
    const FieldLog log;
    Fields(body).array("a");
    Fields(body["a"][0], "a[12].").has("b");
    Fields(body["a"][0], "a.3.").has("c");
    {
      const FieldLog::Pause pause;
      Fields(body).has("unseen");
    }
    paths = log.paths();
  }
  Fields(body).has("late");
  EXPECT_EQ(paths, (std::set<std::string>{"a", "a[].b", "a[].c"}));
}

}  // namespace
}  // namespace mlxr
