#include "daemon/server/openai/chat_request.h"

#include <algorithm>
#include <array>

#include "daemon/server/http/api_error.h"

namespace mlxr::openai {
namespace {

std::string at(const std::string& name, size_t index) {
  return name + "[" + std::to_string(index) + "]";
}

const Json& object_at(const Json& array, size_t index, const std::string& path) {
  if (!array[index].is_object()) {
    throw bad_field(path, "\"" + path + "\" must be an object");
  }
  return array[index];
}

std::string read_role(const Fields& message) {
  static constexpr std::array<std::string_view, 5> kRoles{"system", "developer", "user",
                                                          "assistant", "tool"};
  const auto role = message.string("role");
  if (!role) {
    throw bad_field(message.path("role"), "\"" + message.path("role") + "\" is missing");
  }
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    throw bad_field(message.path("role"), "\"" + message.path("role") +
                                              "\" must be one of system, developer, user, " +
                                              "assistant, tool, not \"" + *role + "\"");
  }
  // What newer OpenAI models call developer is what templates call system.
  return *role == "developer" ? "system" : *role;
}

std::string joined_parts(const Json& parts, const std::string& path) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part_path = at(path, i);
    const Fields part(object_at(parts, i, part_path), part_path + ".");
    const std::string type = part.string("type").value_or("text");
    if (type != "text" && type != "refusal") {
      throw bad_field(part.path("type"), "\"" + part.path("type") + "\" is \"" + type +
                                             "\"; only text parts are supported");
    }
    const auto piece = part.string(type);
    if (!piece) {
      throw bad_field(part.path(type), "\"" + part.path(type) + "\" is missing");
    }
    text += *piece;
  }
  return text;
}

std::string read_content(const Fields& message, const std::string& role) {
  const Json* content = message.value("content");
  if (content == nullptr) {
    if (role != "assistant") {
      throw bad_field(message.path("content"), "\"" + message.path("content") + "\" is missing");
    }
    return "";
  }
  if (content->is_array()) {
    return joined_parts(*content, message.path("content"));
  }
  if (!content->is_string()) {
    throw bad_field(message.path("content"), "\"" + message.path("content") +
                                                 "\" must be a string or an array of text parts");
  }
  return content->get<std::string>();
}

// On the wire arguments are a string of JSON; templates print the object.
Json read_tool_call(const Json& call, const std::string& path) {
  const Fields fields(call, path + ".");
  const Json* function = fields.object("function");
  if (function == nullptr || !Fields(*function, path + ".function.").string("name")) {
    throw bad_field(path + ".function.name", "\"" + path + ".function.name\" is missing");
  }
  Json result = call;
  const Json* arguments = Fields(*function).value("arguments");
  if (arguments != nullptr && arguments->is_string()) {
    Json parsed = Json::parse(arguments->get_ref<const std::string&>(), nullptr, false);
    if (parsed.is_object()) {
      result["function"]["arguments"] = std::move(parsed);
    }
  }
  return result;
}

Json read_message(const Json& source, const std::string& path) {
  const Fields fields(source, path + ".");
  Json message = source;
  message["role"] = read_role(fields);
  message["content"] = read_content(fields, message["role"].get<std::string>());
  const Json* calls = fields.array("tool_calls");
  if (calls == nullptr) {
    message.erase("tool_calls");
    return message;
  }
  Json read = Json::array();
  for (size_t i = 0; i < calls->size(); ++i) {
    const std::string call_path = at(fields.path("tool_calls"), i);
    read.push_back(read_tool_call(object_at(*calls, i, call_path), call_path));
  }
  message["tool_calls"] = std::move(read);
  return message;
}

Json read_messages(const Fields& fields) {
  const Json* messages = fields.array("messages");
  if (messages == nullptr || messages->empty()) {
    throw bad_field("messages", "\"messages\" must be an array with at least one message");
  }
  Json result = Json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    result.push_back(read_message(object_at(*messages, i, at("messages", i)), at("messages", i)));
  }
  return result;
}

Json read_tools(const Fields& fields) {
  const Json* tools = fields.array("tools");
  const Json* choice = fields.value("tool_choice");
  const bool known = choice == nullptr || *choice == "auto" || *choice == "none";
  if (!known) {
    throw bad_field(
        "tool_choice",
        "\"tool_choice\" may be \"auto\" or \"none\"; forcing a call is not supported yet",
        "unsupported_parameter");
  }
  if (tools == nullptr || tools->empty() || (choice != nullptr && *choice == "none")) {
    return nullptr;
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = at("tools", i);
    const Fields tool(object_at(*tools, i, path), path + ".");
    const Json* function = tool.object("function");
    if (tool.string("type").value_or("function") != "function" || function == nullptr ||
        !Fields(*function, path + ".function.").string("name")) {
      throw bad_field(path, "\"" + path + "\" must be {\"type\": \"function\", \"function\": " +
                                "{\"name\": ..., ...}}");
    }
  }
  return *tools;
}

int read_logprobs(const Fields& fields) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top && *top > 0 && !wanted) {
    throw bad_field("top_logprobs", "\"top_logprobs\" needs \"logprobs\": true");
  }
  return wanted ? static_cast<int>(top.value_or(0)) : -1;
}

}  // namespace

ChatRequest read_chat_request(const std::string& body) {
  ChatRequest request;
  request.body = parse_json_object(body);
  const Fields fields(request.body);
  request.options = read_options(fields);
  request.messages = read_messages(fields);
  request.tools = read_tools(fields);
  if (const Json* variables = fields.object("chat_template_kwargs")) {
    request.template_variables = *variables;
  }
  request.n_logprobs = read_logprobs(fields);
  return request;
}

}  // namespace mlxr::openai
