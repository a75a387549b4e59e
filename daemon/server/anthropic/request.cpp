#include "daemon/server/anthropic/request.h"

#include <algorithm>
#include <array>
#include <limits>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/effort.h"

namespace mlxr::anthropic {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

std::string at(const std::string& name, size_t index) { return name + "." + std::to_string(index); }

const Json& object_at(const Json& array, size_t index, const std::string& path) {
  if (!array[index].is_object()) {
    throw bad_field(path, "\"" + path + "\" must be an object");
  }
  return array[index];
}

std::string required_text(const Fields& fields, const std::string& name) {
  const auto text = fields.string(name);
  if (!text) {
    throw bad_field(fields.path(name), "\"" + fields.path(name) + "\" is missing");
  }
  return *text;
}

[[noreturn]] void refuse_block(const Fields& block, const std::string& type) {
  throw bad_field(block.path("type"),
                  "\"" + block.path("type") + "\" is \"" + type +
                      "\", which this server cannot read" +
                      (type == "image" || type == "document" ? " yet: send text" : ""));
}

// Claude Code begins its system prompt with a line that is new in each request: kept, it would make
// every prompt new to the prefix cache.
std::string without_billing_line(const std::string& text) {
  constexpr std::string_view kHeader = "x-anthropic-billing-header:";
  if (!text.starts_with(kHeader)) {
    return text;
  }
  const size_t end = text.find('\n');
  return end == std::string::npos ? "" : text.substr(end + 1);
}

// A string, or blocks of which only text counts.
std::string text_of(const Json& content, const std::string& path) {
  if (content.is_string()) {
    return content.get<std::string>();
  }
  if (!content.is_array()) {
    throw bad_field(path, "\"" + path + "\" must be a string or an array of blocks");
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Fields block(object_at(content, i, at(path, i)), at(path, i) + ".");
    const std::string type = required_text(block, "type");
    if (type != "text") {
      refuse_block(block, type);
    }
    text += required_text(block, "text");
  }
  return text;
}

void add_system(const Fields& fields, Json& messages) {
  const Json* system = fields.value("system");
  if (system == nullptr) {
    return;
  }
  std::string text;
  if (system->is_array()) {
    for (size_t i = 0; i < system->size(); ++i) {
      const std::string block = text_of(Json::array({(*system)[i]}), "system");
      const std::string kept = without_billing_line(block);
      text += (text.empty() || kept.empty() ? "" : "\n") + kept;
    }
  } else {
    text = without_billing_line(text_of(*system, "system"));
  }
  if (!text.empty()) {
    messages.push_back({{"role", "system"}, {"content", text}});
  }
}

// What the blocks of one message come to.
struct Blocks {
  std::string text, thinking;
  Json calls = Json::array();
  Json results = Json::array();  // messages of role "tool"
};

void add_call(const Fields& block, Blocks& blocks) {
  const Json* input = block.object("input");
  blocks.calls.push_back({{"id", required_text(block, "id")},
                          {"type", "function"},
                          {"function",
                           {{"name", required_text(block, "name")},
                            {"arguments", input == nullptr ? Json::object() : *input}}}});
}

void add_result(const Fields& block, Blocks& blocks) {
  const Json* content = block.value("content");
  std::string text = content == nullptr ? "" : text_of(*content, block.path("content"));
  if (block.boolean("is_error").value_or(false)) {
    text.insert(0, "Error: ");
  }
  blocks.results.push_back({{"role", "tool"},
                            {"tool_call_id", required_text(block, "tool_use_id")},
                            {"content", std::move(text)}});
}

Blocks read_blocks(const Json& content, const std::string& path) {
  Blocks blocks;
  if (!content.is_array()) {
    blocks.text = text_of(content, path);
    return blocks;
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const Fields block(object_at(content, i, at(path, i)), at(path, i) + ".");
    const std::string type = required_text(block, "type");
    if (type == "text") {
      blocks.text += required_text(block, "text");
    } else if (type == "thinking") {
      blocks.thinking += required_text(block, "thinking");
    } else if (type == "tool_use") {
      add_call(block, blocks);
    } else if (type == "tool_result") {
      add_result(block, blocks);
    } else if (type != "redacted_thinking") {
      refuse_block(block, type);
    }
  }
  return blocks;
}

void add_message(const Json& source, const std::string& path, Json& messages) {
  const Fields fields(source, path + ".");
  const std::string role = required_text(fields, "role");
  if (role != "user" && role != "assistant") {
    throw bad_field(fields.path("role"), "\"" + fields.path("role") +
                                             "\" must be user or assistant, not \"" + role + "\"");
  }
  const Json* content = fields.value("content");
  if (content == nullptr) {
    throw bad_field(fields.path("content"), "\"" + fields.path("content") + "\" is missing");
  }
  Blocks blocks = read_blocks(*content, fields.path("content"));
  // Results come before what the user says next.
  for (Json& result : blocks.results) {
    messages.push_back(std::move(result));
  }
  if (!blocks.results.empty() && blocks.text.empty()) {
    return;
  }
  Json message{{"role", role}, {"content", blocks.text}};
  if (!blocks.thinking.empty()) {
    message["reasoning_content"] = blocks.thinking;
  }
  if (!blocks.calls.empty()) {
    message["tool_calls"] = std::move(blocks.calls);
  }
  messages.push_back(std::move(message));
}

// A last message of the assistant's is what its answer begins with. This sentence is Anthropic's.
void check_beginning(const Json& last) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::string& text = last["content"].get_ref<const std::string&>();
  if (last["role"] == "assistant" && !last.contains("tool_calls") && !text.empty() &&
      kSpace.find(text.back()) != std::string_view::npos) {
    throw bad_field("messages",
                    "messages: final assistant content cannot end with trailing whitespace");
  }
}

Json read_messages(const Fields& fields) {
  const Json* given = fields.array("messages");
  if (given == nullptr || given->empty()) {
    throw bad_field("messages", "\"messages\" must be an array with at least one message");
  }
  Json messages = Json::array();
  add_system(fields, messages);
  for (size_t i = 0; i < given->size(); ++i) {
    add_message(object_at(*given, i, at("messages", i)), at("messages", i), messages);
  }
  check_beginning(messages.back());
  return messages;
}

void translate_tools(const Fields& fields, Json& body) {
  const Json* tools = fields.array("tools");
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Fields tool(object_at(*tools, i, at("tools", i)), at("tools", i) + ".");
    const std::string type = tool.string("type").value_or("custom");
    if (type != "custom") {
      throw bad_field(tool.path("type"),
                      "\"" + tool.path("type") + "\" is \"" + type +
                          "\": this server runs no tools of its own; define it "
                          "with an input_schema",
                      "unsupported_parameter");
    }
    const Json* schema = tool.object("input_schema");
    Json function{{"name", required_text(tool, "name")}};
    if (const auto description = tool.string("description")) {
      function["description"] = *description;
    }
    function["parameters"] = schema == nullptr ? Json{{"type", "object"}} : *schema;
    if (const auto strict = tool.boolean("strict")) {
      function["strict"] = *strict;
    }
    body["tools"].push_back({{"type", "function"}, {"function", std::move(function)}});
  }
}

void translate_tool_choice(const Fields& fields, Json& body) {
  const Json* choice = fields.object("tool_choice");
  if (choice == nullptr) {
    return;
  }
  const Fields inner(*choice, "tool_choice.");
  const std::string type = required_text(inner, "type");
  if (type == "tool") {
    body["tool_choice"] = {{"type", "function"},
                           {"function", {{"name", required_text(inner, "name")}}}};
  } else if (type == "any") {
    body["tool_choice"] = "required";
  } else if (type == "auto" || type == "none") {
    body["tool_choice"] = type;
  } else {
    throw bad_field("tool_choice.type",
                    "\"tool_choice.type\" must be auto, any, tool or none, not \"" + type + "\"");
  }
  if (inner.boolean("disable_parallel_tool_use").value_or(false)) {
    body["parallel_tool_calls"] = false;
  }
}

// Who does not ask for thoughts gets none: clients take the first block for the text.
void translate_thinking(const Fields& fields, MessagesRequest& request, Json& body) {
  const Json* thinking = fields.object("thinking");
  const std::string type =
      thinking == nullptr ? "disabled" : required_text(Fields(*thinking, "thinking."), "type");
  if (type != "enabled" && type != "disabled" && type != "adaptive") {
    throw bad_field(
        "thinking.type",
        "\"thinking.type\" must be enabled, disabled or adaptive, not \"" + type + "\"");
  }
  request.show_thinking = type != "disabled";
  body["chat_template_kwargs"] = {{"enable_thinking", request.show_thinking},
                                  {"thinking", request.show_thinking}};
}

// How hard to think where thinking is on, and where it cannot be turned off.
void translate_effort(const Fields& fields, Json& body) {
  const Json* config = fields.object("output_config");
  const auto effort =
      config == nullptr ? std::nullopt : Fields(*config, "output_config.").string("effort");
  if (!effort) {
    return;
  }
  static constexpr std::array<std::string_view, 5> kEfforts{"low", "medium", "high", "xhigh",
                                                            "max"};
  if (std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
    throw bad_field("output_config.effort",
                    "\"output_config.effort\" must be low, medium, high, xhigh or max, not \"" +
                        *effort + "\"");
  }
  body["chat_template_kwargs"]["reasoning_effort"] = openai::template_effort(*effort);
}

void translate_format(const Fields& fields, Json& body) {
  const Json* config = fields.object("output_config");
  const Json* format = config == nullptr ? fields.object("output_format")
                                         : Fields(*config, "output_config.").object("format");
  if (format == nullptr) {
    return;
  }
  const Json* schema = Fields(*format).object("schema");
  body["response_format"] = {
      {"type", Fields(*format).string("type").value_or("")},
      {"json_schema",
       {{"name", "output"}, {"strict", true}, {"schema", schema == nullptr ? Json() : *schema}}}};
}

void translate_options(const Fields& fields, bool counting, Json& body) {
  body["model"] = required_text(fields, "model");
  const auto limit = fields.integer("max_tokens", 1, kMaxInt);
  if (!limit && !counting) {
    throw bad_field("max_tokens",
                    "\"max_tokens\" is missing: it is the most tokens to answer with");
  }
  if (limit) {
    body["max_tokens"] = *limit;
  }
  for (const char* name : {"temperature", "top_p", "top_k", "stream", "context_shift", "n_keep"}) {
    if (const Json* value = fields.value(name)) {
      body[name] = *value;
    }
  }
  if (const Json* stop = fields.array("stop_sequences")) {
    body["stop"] = *stop;
  }
}

// Of the translated body, which has no other sampling than Anthropic's.
void check_ranges(const Json& body) {
  const FieldLog::Pause pause;
  openai::check_ranges(Fields(body));
}

}  // namespace

MessagesRequest read_messages_request(const std::string& text, bool counting) {
  const Json source = parse_json_object(text);
  const Fields fields(source);
  MessagesRequest request;
  Json body;
  translate_options(fields, counting, body);
  check_ranges(body);
  openai::copy_scheduling(fields, body);
  body["messages"] = read_messages(fields);
  translate_tools(fields, body);
  translate_tool_choice(fields, body);
  translate_thinking(fields, request, body);
  translate_effort(fields, body);
  translate_format(fields, body);
  request.chat = openai::to_chat_request(std::move(body));
  return request;
}

}  // namespace mlxr::anthropic
