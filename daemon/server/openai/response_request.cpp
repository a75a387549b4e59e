#include "daemon/server/openai/response_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/effort.h"
#include "daemon/server/openai/response_items.h"

namespace mlxr::openai {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr const char* kUnsupported = "unsupported_parameter";
constexpr size_t kMaxMetadata = 16;

// Fields of a chat that mean the same here, this server's own ones included.
constexpr std::array<const char*, 18> kOfAChat{
    "model",      "temperature",    "top_p",      "top_logprobs",        "stream",
    "seed",       "top_k",          "min_p",      "presence_penalty",    "frequency_penalty",
    "stop",       "repeat_penalty", "ignore_eos", "parallel_tool_calls", "service_tier",
    "truncation", "context_shift",  "n_keep"};

[[noreturn]] void wrong(const std::string& path, const std::string& what,
                        const std::string& code = "") {
  throw bad_field(path, "\"" + path + "\" " + what, code);
}

void refuse_what_is_not_served(const Fields& fields) {
  const FieldLog::Pause pause;
  if (fields.boolean("background").value_or(false)) {
    wrong("background", "is not supported: ask for a stream instead", kUnsupported);
  }
  if (fields.has("conversation")) {
    wrong("conversation", "is not supported: use \"previous_response_id\"", kUnsupported);
  }
  if (fields.has("prompt")) {
    wrong("prompt", "is not supported: this server keeps no prompt templates; use \"input\"",
          kUnsupported);
  }
}

// What asks for more in the answer. The sources of hosted tools do not occur, and reasoning is
// never encrypted: it comes as it is.
bool wants_logprobs(const Fields& fields) {
  const Json* include = fields.array("include");
  bool wanted = false;
  for (size_t i = 0; include != nullptr && i < include->size(); ++i) {
    if (!(*include)[i].is_string()) {
      wrong("include[" + std::to_string(i) + "]", "must be a string");
    }
    wanted = wanted || (*include)[i] == "message.output_text.logprobs";
  }
  return wanted || fields.integer("top_logprobs", 0, kMaxTopLogprobs).value_or(0) > 0;
}

// {"type": "function", "name", ...} has its fields one level deeper in a chat.
Json chat_tool(const Json& source, const std::string& path) {
  if (!source.is_object()) {
    wrong(path, "must be an object");
  }
  const Fields tool(source, path + ".");
  const std::string type = tool.string("type").value_or("");
  if (type != "function") {
    wrong(tool.path("type"),
          "is \"" + type +
              "\": this server runs no tools of its own; define a tool of type \"function\"",
          kUnsupported);
  }
  const auto name = tool.string("name");
  if (!name || name->empty()) {
    wrong(tool.path("name"), "is missing");
  }
  Json function{{"name", *name}};
  if (const auto description = tool.string("description")) {
    function["description"] = *description;
  }
  const Json* parameters = tool.object("parameters");
  function["parameters"] = parameters == nullptr ? Json{{"type", "object"}} : *parameters;
  if (const auto strict = tool.boolean("strict")) {
    function["strict"] = *strict;
  }
  return {{"type", "function"}, {"function", std::move(function)}};
}

void translate_tools(const Fields& fields, Json& body) {
  const Json* tools = fields.array("tools");
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    body["tools"].push_back(chat_tool((*tools)[i], "tools[" + std::to_string(i) + "]"));
  }
}

// {"type": "allowed_tools", "mode", "tools": [{"type": "function", "name"}]}
Json allowed_tools(const Fields& choice) {
  const Json* tools = choice.array("tools");
  Json allowed{{"mode", choice.string("mode").value_or("auto")}, {"tools", Json::array()}};
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string path = choice.path("tools[") + std::to_string(i) + "]";
    const Json& tool = (*tools)[i];
    const auto name = tool.is_object() ? Fields(tool, path + ".").string("name") : std::nullopt;
    if (!name) {
      wrong(path, "must be {\"type\": \"function\", \"name\": ...}");
    }
    allowed["tools"].push_back({{"type", "function"}, {"function", {{"name", *name}}}});
  }
  return {{"type", "allowed_tools"}, {"allowed_tools", std::move(allowed)}};
}

void translate_tool_choice(const Fields& fields, Json& body) {
  const Json* choice = fields.value("tool_choice");
  if (choice == nullptr) {
    return;
  }
  if (!choice->is_object()) {
    body["tool_choice"] = *choice;
    return;
  }
  const Fields inner(*choice, "tool_choice.");
  const std::string type = inner.string("type").value_or("");
  if (type == "function") {
    body["tool_choice"] = {{"type", "function"},
                           {"function", {{"name", inner.string("name").value_or("")}}}};
  } else if (type == "allowed_tools") {
    body["tool_choice"] = allowed_tools(inner);
  } else {
    wrong("tool_choice.type", "must be function or allowed_tools, not \"" + type + "\"",
          kUnsupported);
  }
}

void translate_format(const Fields& fields, Json& body) {
  const Json* text = fields.object("text");
  const Json* format = text == nullptr ? nullptr : Fields(*text, "text.").object("format");
  if (format == nullptr) {
    return;
  }
  const Fields inner(*format, "text.format.");
  const std::string type = inner.string("type").value_or("text");
  if (type == "json_object") {
    body["response_format"] = {{"type", type}};
  } else if (type == "json_schema") {
    const Json* schema = inner.object("schema");
    if (schema == nullptr) {
      wrong("text.format.schema", "is missing");
    }
    body["response_format"] = {
        {"type", type},
        {"json_schema",
         {{"schema", *schema}, {"strict", inner.boolean("strict").value_or(false)}}}};
  } else if (type != "text") {
    wrong("text.format.type", "must be text, json_object or json_schema, not \"" + type + "\"");
  }
}

void translate_effort(const Fields& fields, Json& body) {
  const Json* variables = fields.object("chat_template_kwargs");
  if (variables != nullptr) {
    body["chat_template_kwargs"] = *variables;
  }
  const Json* reasoning = fields.object("reasoning");
  const auto effort =
      reasoning == nullptr ? std::nullopt : Fields(*reasoning, "reasoning.").string("effort");
  if (!effort) {
    return;
  }
  apply_effort(*effort, "reasoning.effort", body["chat_template_kwargs"]);
}

Json read_metadata(const Fields& fields) {
  const Json* metadata = fields.object("metadata");
  if (metadata == nullptr) {
    return Json::object();
  }
  if (metadata->size() > kMaxMetadata) {
    wrong("metadata", "has " + std::to_string(metadata->size()) + " entries; at most " +
                          std::to_string(kMaxMetadata) + " are kept");
  }
  for (const auto& [name, value] : metadata->items()) {
    if (!value.is_string()) {
      wrong("metadata." + name, "must be a string");
    }
  }
  return *metadata;
}

Json value_or(const Fields& fields, const std::string& name, Json fallback) {
  const Json* value = fields.value(name);
  return value == nullptr ? std::move(fallback) : *value;
}

// In the order in which OpenAI writes them. The answer adds what it knows better: model,
// temperature, top_p.
Json shown_fields(const Fields& fields) {
  Json shown = Json::object();
  shown["instructions"] = value_or(fields, "instructions", nullptr);
  shown["max_output_tokens"] = value_or(fields, "max_output_tokens", nullptr);
  shown["metadata"] = read_metadata(fields);
  shown["parallel_tool_calls"] = value_or(fields, "parallel_tool_calls", true);
  shown["previous_response_id"] = value_or(fields, "previous_response_id", nullptr);
  Json reasoning{{"effort", nullptr}, {"summary", nullptr}};
  if (const Json* given = fields.object("reasoning")) {
    reasoning.update(*given);
  }
  shown["reasoning"] = std::move(reasoning);
  shown["store"] = fields.boolean("store").value_or(true);
  Json text{{"format", {{"type", "text"}}}};
  if (const Json* given = fields.object("text")) {
    text.update(*given);
  }
  shown["text"] = std::move(text);
  shown["tool_choice"] = value_or(fields, "tool_choice", "auto");
  shown["tools"] = value_or(fields, "tools", Json::array());
  shown["top_logprobs"] = value_or(fields, "top_logprobs", 0);
  shown["truncation"] = value_or(fields, "truncation", "disabled");
  for (const char* name : {"safety_identifier", "prompt_cache_key", "user"}) {
    if (const auto text_value = fields.string(name)) {
      shown[name] = *text_value;
    }
  }
  return shown;
}

// A result is of a call that came before it. The sentence is OpenAI's.
void check_results(const Json& conversation) {
  std::set<std::string> called;
  for (const Json& item : conversation) {
    if (item["type"] == "function_call") {
      called.insert(item["call_id"].get<std::string>());
    } else if (item["type"] == "function_call_output") {
      const std::string id = item["call_id"].get<std::string>();
      if (!called.contains(id)) {
        throw bad_field("input",
                        "No tool call found for function call output with call_id " + id + ".");
      }
    }
  }
}

Json read_conversation(const Fields& fields, const EarlierItems& earlier) {
  const auto previous = fields.string("previous_response_id");
  Json items = previous ? earlier(*previous) : Json::array();
  return items;
}

Json chat_body(const Fields& fields, const Json& conversation, bool with_logprobs) {
  Json body = Json::object();
  for (const char* name : kOfAChat) {
    if (const Json* value = fields.value(name)) {
      body[name] = *value;
    }
  }
  if (const auto limit = fields.integer("max_output_tokens", 1, kMaxInt)) {
    body["max_completion_tokens"] = *limit;
  }
  if (with_logprobs) {
    body["logprobs"] = true;
  }
  copy_scheduling(fields, body);
  translate_tools(fields, body);
  translate_tool_choice(fields, body);
  translate_format(fields, body);
  translate_effort(fields, body);
  body["continue_final_message"] = false;  // a message among the items is complete
  body["messages"] = messages_of_items(fields.string("instructions").value_or(""), conversation);
  return body;
}

}  // namespace

ResponseRequest read_response_request(const std::string& text, const EarlierItems& earlier) {
  const Json source = parse_json_object(text);
  const Fields fields(source);
  refuse_what_is_not_served(fields);
  check_ranges(fields);
  ResponseRequest request;
  const Json* input = fields.value("input");
  if (input == nullptr) {
    wrong("input", "is missing: it is a text or an array of items");
  }
  request.input = read_input_items(*input);
  request.conversation = read_conversation(fields, earlier);
  request.conversation.insert(request.conversation.end(), request.input.begin(),
                              request.input.end());
  if (request.conversation.empty()) {
    wrong("input", "must have at least one item");
  }
  check_results(request.conversation);
  request.store = fields.boolean("store").value_or(true);
  request.with_logprobs = wants_logprobs(fields);
  request.shown = shown_fields(fields);
  Json body = chat_body(fields, request.conversation, request.with_logprobs);
  if (body["messages"].empty()) {
    wrong("input", "must have an item that says something");
  }
  request.chat = to_chat_request(std::move(body));
  blame_text_format(request);
  return request;
}

void blame_text_format(ResponseRequest& request) {
  if (request.chat.options.constraint) {
    request.chat.options.constraint->field = "text.format.schema";
  }
}

}  // namespace mlxr::openai
