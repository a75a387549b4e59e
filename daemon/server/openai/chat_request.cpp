#include "daemon/server/openai/chat_request.h"

#include <algorithm>
#include <array>
#include <set>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/openai/effort.h"

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
  const Json* arguments = Fields(*function, path + ".function.").value("arguments");
  if (arguments != nullptr && arguments->is_string()) {
    Json parsed = Json::parse(arguments->get_ref<const std::string&>(), nullptr, false);
    if (parsed.is_object()) {
      result["function"]["arguments"] = std::move(parsed);
    }
  }
  return result;
}

// Clients send reasoning back under any of three names; templates look for two.
void keep_reasoning(const Fields& fields, Json& message) {
  for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
    const Json* text = fields.value(name);
    if (text != nullptr && text->is_string()) {
      message["reasoning_content"] = *text;
      message["thinking"] = *text;
      return;
    }
  }
}

Json read_message(const Json& source, const std::string& path) {
  const Fields fields(source, path + ".");
  Json message = source;
  message["role"] = read_role(fields);
  message["content"] = read_content(fields, message["role"].get<std::string>());
  keep_reasoning(fields, message);
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

// The tools that a call may be of, where "tool_choice" names some.
struct AllowedTools {
  std::set<std::string> names;
  bool required = false;  // one of them must be called
};

// {"type": "allowed_tools", "allowed_tools": {"mode", "tools": [{"type": "function", "function":
// {"name"}}]}}
std::optional<AllowedTools> read_allowed_tools(const Fields& fields) {
  const Json* choice = fields.value("tool_choice");
  if (choice == nullptr || !choice->is_object() ||
      Fields(*choice, "tool_choice.").string("type") != "allowed_tools") {
    return std::nullopt;
  }
  const std::string path = "tool_choice.allowed_tools";
  const Json* given = Fields(*choice, "tool_choice.").object("allowed_tools");
  const Json* tools = given == nullptr ? nullptr : Fields(*given, path + ".").array("tools");
  if (tools == nullptr) {
    throw bad_field(path, "\"" + path + "\" must be {\"mode\": ..., \"tools\": [...]}");
  }
  const std::string mode = Fields(*given, path + ".").string("mode").value_or("auto");
  if (mode != "auto" && mode != "required") {
    throw bad_field(path + ".mode",
                    "\"" + path + ".mode\" must be auto or required, not \"" + mode + "\"");
  }
  AllowedTools allowed{{}, mode == "required"};
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string tool = at(path + ".tools", i);
    const Json* function = Fields(object_at(*tools, i, tool), tool + ".").object("function");
    const auto name =
        function == nullptr ? std::nullopt : Fields(*function, tool + ".function.").string("name");
    if (!name) {
      throw bad_field(tool, "\"" + tool +
                                "\" must be {\"type\": \"function\", \"function\": {\"name\": "
                                "...}}");
    }
    allowed.names.insert(*name);
  }
  return allowed;
}

void check_tool(const Json& tools, size_t index) {
  const std::string path = at("tools", index);
  const Fields tool(object_at(tools, index, path), path + ".");
  const Json* function = tool.object("function");
  if (tool.string("type").value_or("function") != "function" || function == nullptr ||
      !Fields(*function, path + ".function.").string("name")) {
    throw bad_field(path, "\"" + path + "\" must be {\"type\": \"function\", \"function\": " +
                              "{\"name\": ..., ...}}");
  }
}

// Null where nothing can be called. Tools that are not allowed are hidden from the model.
Json read_tools(const Fields& fields, const std::optional<AllowedTools>& allowed) {
  const Json* tools = fields.array("tools");
  const Json* choice = fields.value("tool_choice");
  if (tools == nullptr || tools->empty() || (choice != nullptr && *choice == "none")) {
    return nullptr;
  }
  Json kept = Json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    check_tool(*tools, i);
    if (!allowed || allowed->names.contains((*tools)[i]["function"]["name"].get<std::string>())) {
      kept.push_back((*tools)[i]);
    }
  }
  return kept.empty() ? Json() : kept;
}

bool has_tool(const Json& tools, const std::string& name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const Json& tool) { return tool["function"]["name"] == name; });
}

// What "tool_choice" asks for, and whether it can be had; an empty name is any of the tools.
void check_choice(const std::string& name, const Json& tools) {
  if (tools.is_null() || (!name.empty() && !has_tool(tools, name))) {
    throw bad_field("tool_choice", "\"tool_choice\" asks for a call of " +
                                       (name.empty() ? "a tool" : "\"" + name + "\"") +
                                       ", which \"tools\" does not have");
  }
}

// Nothing: the model chooses. An empty name: it must call something.
std::optional<std::string> read_forced_call(const Fields& fields, const Json& tools,
                                            const std::optional<AllowedTools>& allowed) {
  const Json* choice = fields.value("tool_choice");
  if (choice == nullptr || *choice == "auto" || *choice == "none" ||
      (allowed && !allowed->required)) {
    return std::nullopt;
  }
  std::optional<std::string> name;
  if (*choice == "required" || allowed) {
    name = "";
  } else if (const Json* function = choice->is_object()
                                        ? Fields(*choice, "tool_choice.").object("function")
                                        : nullptr) {
    name = Fields(*function, "tool_choice.function.").string("name");
  }
  if (!name) {
    throw bad_field("tool_choice",
                    "\"tool_choice\" must be \"auto\", \"none\", \"required\", {\"type\": "
                    "\"function\", \"function\": {\"name\": ...}} or {\"type\": "
                    "\"allowed_tools\", \"allowed_tools\": {...}}");
  }
  check_choice(*name, tools);
  return name;
}

int read_logprobs(const Fields& fields) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top && *top > 0 && !wanted) {
    throw bad_field("top_logprobs", "\"top_logprobs\" needs \"logprobs\": true");
  }
  return wanted ? static_cast<int>(top.value_or(0)) : -1;
}

std::optional<bool> read_truncation(const Fields& fields) {
  const auto truncation = fields.string("truncation");
  if (truncation && *truncation != "auto" && *truncation != "disabled") {
    throw bad_field("truncation",
                    "\"truncation\" must be \"auto\" (the oldest turns are dropped "
                    "where a prompt is too long) or \"disabled\", not \"" +
                        *truncation + "\"");
  }
  return truncation ? std::optional(*truncation == "auto") : std::nullopt;
}

// A last message of the assistant's is what its answer begins with, as in llama-server; vLLM's
// fields say otherwise.
PromptEnd read_end(const Fields& fields, const Json& messages) {
  const Json& last = messages.back();
  const bool open = last["role"] == "assistant" && last.value("tool_calls", Json()).empty();
  const auto goes_on = fields.boolean("continue_final_message");
  const auto new_turn = fields.boolean("add_generation_prompt");
  if (goes_on.value_or(false)) {
    if (new_turn.value_or(false)) {
      throw bad_field("add_generation_prompt",
                      "\"add_generation_prompt\" and \"continue_final_message\" cannot both be "
                      "true");
    }
    if (!open) {
      throw bad_field("continue_final_message",
                      "\"continue_final_message\" needs a last message of the assistant's, "
                      "without tool calls");
    }
    return PromptEnd::kLastMessage;
  }
  if (open && !goes_on && !new_turn.value_or(false)) {
    return PromptEnd::kLastMessage;
  }
  return new_turn.value_or(true) ? PromptEnd::kNewTurn : PromptEnd::kNothing;
}

ChatRequest checked(Json body) {
  ChatRequest request;
  request.body = std::move(body);
  const Fields fields(request.body);
  request.options = read_options(fields);
  request.messages = read_messages(fields);
  request.end = read_end(fields, request.messages);
  const std::optional<AllowedTools> allowed = read_allowed_tools(fields);
  request.tools = read_tools(fields, allowed);
  request.forced_call = read_forced_call(fields, request.tools, allowed);
  request.parallel_calls = fields.boolean("parallel_tool_calls").value_or(true);
  if (const Json* variables = fields.object("chat_template_kwargs")) {
    request.template_variables = *variables;
  }
  if (const auto effort = fields.string("reasoning_effort")) {
    apply_effort(*effort, "reasoning_effort", request.template_variables);
  }
  request.n_logprobs = read_logprobs(fields);
  request.truncate = read_truncation(fields);
  return request;
}

}  // namespace

ChatRequest to_chat_request(Json body) {
  const FieldLog::Pause pause;
  return checked(std::move(body));
}

ChatRequest read_chat_request(const std::string& text) {
  Json body = parse_json_object(text);
  check_ranges(Fields(body));
  return checked(std::move(body));
}

}  // namespace mlxr::openai
