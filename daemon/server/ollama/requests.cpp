#include "daemon/server/ollama/requests.h"

#include <limits>

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/options.h"

namespace mlxr::ollama {
namespace {

void refuse_what_is_set(const Fields& fields, std::initializer_list<const char*> names) {
  const FieldLog::Pause pause;
  for (const char* name : names) {
    const Json* value = fields.value(name);
    const bool set = value != nullptr && *value != Json(false) && *value != Json(0) &&
                     !((value->is_string() || value->is_structured()) && value->empty()) &&
                     *value != Json("");
    if (set) {
      throw bad_field(name, "\"" + std::string(name) + "\" is not supported yet; leave it out",
                      "unsupported_parameter");
    }
  }
}

// Templates of different families listen to different names.
void translate_think(const Fields& fields, ChatRequest& request, Json& body) {
  const Json* think = fields.value("think");
  if (think == nullptr || *think == "") {
    return;
  }
  const bool level = *think == "low" || *think == "medium" || *think == "high";
  if (!think->is_boolean() && !level) {
    throw bad_field(
        "think",
        "\"think\" must be true, false, \"low\", \"medium\" or \"high\", not " + to_text(*think));
  }
  request.think = level || think->get<bool>();
  Json& variables = body["chat_template_kwargs"];
  variables["enable_thinking"] = *request.think;
  variables["thinking"] = *request.think;
  if (level) {
    variables["reasoning_effort"] = *think;
  }
}

// Alternatives alone ask for nothing.
void translate_logprobs(const Fields& fields, Json& body) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const int64_t top = fields.integer("top_logprobs", 0, openai::kMaxTopLogprobs).value_or(0);
  if (wanted) {
    body["logprobs"] = true;
    body["top_logprobs"] = top;
  }
}

// What only this API has: a tool's name on its result, calls without an id.
Json translate_message(const Json& source) {
  Json message = source;
  if (!source.is_object()) {
    return message;
  }
  const auto name = message.find("tool_name");
  if (name != message.end() && !message.contains("name")) {
    message["name"] = *name;
  }
  const auto images = message.find("images");
  if (images != message.end() && (images->is_null() || images->empty())) {
    message.erase("images");
  }
  return message;
}

Json translate_messages(const Fields& fields) {
  Json messages = Json::array();
  const Json* given = fields.array("messages");
  for (size_t i = 0; given != nullptr && i < given->size(); ++i) {
    messages.push_back(translate_message((*given)[i]));
    if (messages.back().is_object() && messages.back().contains("images")) {
      const std::string path = "messages[" + std::to_string(i) + "].images";
      throw bad_field(path, "\"" + path + "\": this server does not read images yet",
                      "unsupported_parameter");
    }
  }
  return messages;
}

void read_shared(const Fields& fields, ChatRequest& request, Json& body) {
  read_model(fields);
  translate_options(fields, body);
  openai::copy_scheduling(fields, body);
  body["model"] = read_model(fields);
  request.keep_alive = read_keep_alive(fields);
  if (const auto truncate = fields.boolean("truncate")) {
    body["truncation"] = *truncate ? "auto" : "disabled";
  }
  if (const auto shift = fields.boolean("shift")) {
    body["context_shift"] = *shift;
  }
  translate_think(fields, request, body);
}

std::vector<int32_t> read_context(const Fields& fields) {
  std::vector<int32_t> tokens;
  const Json* context = fields.array("context");
  for (size_t i = 0; context != nullptr && i < context->size(); ++i) {
    const Json& token = (*context)[i];
    const bool fits = token.is_number_unsigned() &&
                      token.get<uint64_t>() <= uint64_t{std::numeric_limits<int32_t>::max()};
    if (!fits) {
      throw bad_field("context",
                      "\"context\" must be the array of token ids that an earlier answer "
                      "ended with");
    }
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

// In Ollama's words.
void refuse_beside_raw(const Fields& fields) {
  const FieldLog::Pause pause;
  for (const char* name : {"template", "system", "context"}) {
    const Json* value = fields.value(name);
    if (value != nullptr && *value != Json("") && !(value->is_array() && value->empty())) {
      throw bad_field(name, "raw mode does not support template, system, or context");
    }
  }
}

Json as_messages(const Fields& fields, const std::string& prompt) {
  Json messages = Json::array();
  const std::string system = fields.string("system").value_or("");
  if (!system.empty()) {
    messages.push_back({{"role", "system"}, {"content", system}});
  }
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return messages;
}

// A request that only loads has no messages to check. Ollama's clients expect that an answer does
// not end where the window is full.
openai::ChatRequest to_normal_form(Json body, bool loads_only) {
  if (loads_only) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", ""}}});
  }
  openai::ChatRequest request = openai::to_chat_request(std::move(body));
  request.options.shift_by_default = true;
  return request;
}

}  // namespace

std::string read_model(const Fields& fields) {
  for (const char* name : {"model", "name"}) {
    const auto model = fields.string(name);
    if (model && !model->empty()) {
      return *model;
    }
  }
  throw bad_field("model", "\"model\" is missing: it is the name of a model");
}

ChatRequest read_chat_request(const std::string& text) {
  const Json source = parse_json_object(text);
  const Fields fields(source);
  ChatRequest request;
  Json body;
  read_shared(fields, request, body);
  body["messages"] = translate_messages(fields);
  request.loads_only = body["messages"].empty();
  if (const Json* tools = fields.array("tools")) {
    body["tools"] = *tools;
  }
  translate_logprobs(fields, body);
  request.chat = to_normal_form(std::move(body), request.loads_only);
  return request;
}

GenerateRequest read_generate_request(const std::string& text) {
  const Json source = parse_json_object(text);
  const Fields fields(source);
  GenerateRequest request;
  Json body;
  read_shared(fields, request.base, body);
  request.prompt = fields.string("prompt").value_or("");
  request.suffix = fields.string("suffix").value_or("");
  request.raw = fields.boolean("raw").value_or(false);
  request.context = read_context(fields);
  if (request.raw) {
    refuse_beside_raw(fields);
  }
  refuse_what_is_set(fields, {"images", "template"});
  translate_logprobs(fields, body);
  request.base.loads_only = request.prompt.empty() && request.suffix.empty();
  body["messages"] = as_messages(fields, request.prompt);
  request.base.chat = to_normal_form(std::move(body), request.base.loads_only);
  return request;
}

}  // namespace mlxr::ollama
