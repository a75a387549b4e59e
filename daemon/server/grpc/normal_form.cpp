#include "daemon/server/grpc/normal_form.h"

#include "daemon/server/http/api_error.h"

namespace mlxr::rpc {
namespace {

using google::protobuf::FieldDescriptor;

// A field that holds a JSON object as text.
Json parse_field(const std::string& text, const std::string& path) {
  try {
    return parse_json_object(text);
  } catch (const RequestError& error) {
    throw bad_field(path, "\"" + path + "\" must be a JSON object: " + error.what());
  }
}

void put_if_any(Json& json, const char* name, const std::string& text) {
  if (!text.empty()) {
    json[name] = text;
  }
}

const char* role_name(v1::Role role) {
  switch (role) {
    case v1::ROLE_SYSTEM:
      return "system";
    case v1::ROLE_USER:
      return "user";
    case v1::ROLE_ASSISTANT:
      return "assistant";
    case v1::ROLE_TOOL:
      return "tool";
    default:
      return nullptr;  // missing, or of a newer version of this API
  }
}

Json to_json(const v1::ChatMessage& message) {
  Json json = Json::object();
  if (const char* role = role_name(message.role())) {
    json["role"] = role;
  }
  json["content"] = message.content();
  put_if_any(json, "reasoning_content", message.reasoning());
  put_if_any(json, "tool_call_id", message.tool_call_id());
  put_if_any(json, "name", message.name());
  for (const v1::ToolCall& call : message.tool_calls()) {
    json["tool_calls"].push_back(
        {{"id", call.id()},
         {"type", "function"},
         {"function", {{"name", call.name()}, {"arguments", call.arguments()}}}});
  }
  return json;
}

Json to_json(const v1::Tool& tool, const std::string& path) {
  if (tool.name().empty()) {
    throw bad_field(path + ".name", "\"" + path + ".name\" is missing");
  }
  Json function{{"name", tool.name()}};
  put_if_any(function, "description", tool.description());
  if (!tool.parameters().empty()) {
    function["parameters"] = parse_field(tool.parameters(), path + ".parameters");
  }
  if (tool.has_strict()) {
    function["strict"] = tool.strict();
  }
  return {{"type", "function"}, {"function", std::move(function)}};
}

// What ChatRequest and Conversation have alike.
template <typename Message>
void add_conversation(const Message& message, const std::string& prefix, Json& body) {
  body["messages"] = Json::array();
  for (const v1::ChatMessage& one : message.messages()) {
    body["messages"].push_back(to_json(one));
  }
  for (int i = 0; i < message.tools_size(); ++i) {
    body["tools"].push_back(to_json(message.tools(i), prefix + "tools[" + std::to_string(i) + "]"));
  }
  if (!message.template_variables().empty()) {
    body["chat_template_kwargs"] =
        parse_field(message.template_variables(), prefix + "template_variables");
  }
}

Json to_json(const v1::ToolChoice& choice) {
  if (choice.has_name()) {
    return {{"type", "function"}, {"function", {{"name", choice.name()}}}};
  }
  switch (choice.mode()) {
    case v1::ToolChoice::MODE_NONE:
      return "none";
    case v1::ToolChoice::MODE_REQUIRED:
      return "required";
    default:
      return "auto";
  }
}

Json to_json(const v1::Sampling& message, const FieldDescriptor& field) {
  const google::protobuf::Reflection& values = *message.GetReflection();
  if (field.is_repeated()) {
    Json list = Json::array();
    for (int i = 0; i < values.FieldSize(message, &field); ++i) {
      list.push_back(values.GetRepeatedString(message, &field, i));
    }
    return list;
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT:
      return short_number(values.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return values.GetInt32(message, &field);
    default:
      return values.GetInt64(message, &field);
  }
}

// Its fields have the names that they have in the normal form.
void add_sampling(const v1::Sampling& sampling, Json& body) {
  std::vector<const FieldDescriptor*> present;
  sampling.GetReflection()->ListFields(sampling, &present);
  for (const FieldDescriptor* field : present) {
    if (!field->is_map()) {
      body[field->name()] = to_json(sampling, *field);
    }
  }
  for (const auto& [token, bias] : sampling.logit_bias()) {
    body["logit_bias"][std::to_string(token)] = short_number(bias);
  }
}

void add_constraint(const v1::AnswerOptions& options, Json& body) {
  switch (options.constraint_case()) {
    case v1::AnswerOptions::kJsonObject:
      body["guided_json_object"] = options.json_object();
      break;
    case v1::AnswerOptions::kJsonSchema:
      body["json_schema"] = options.json_schema();
      break;
    case v1::AnswerOptions::kRegex:
      body["regex"] = options.regex();
      break;
    case v1::AnswerOptions::kGrammar:
      body["grammar"] = options.grammar();
      break;
    default:
      break;
  }
}

void add_options(const v1::AnswerOptions& options, Json& body) {
  body["stream"] = true;
  if (options.has_max_tokens()) {
    body["max_tokens"] = options.max_tokens();
  }
  if (options.has_n()) {
    body["n"] = options.n();
  }
  for (const std::string& stop : options.stop()) {
    body["stop"].push_back(stop);
  }
  body["ignore_eos"] = options.ignore_eos();
  if (options.has_context_shift()) {
    body["context_shift"] = options.context_shift();
  }
  if (options.has_n_keep()) {
    body["n_keep"] = options.n_keep();
  }
  body["skip_special_tokens"] = !options.show_special();
  add_constraint(options, body);
  body["priority"] = -int64_t{options.priority()};  // in the normal form lower numbers go first
  put_if_any(body, "cache_salt", options.cache_salt());
  for (const v1::LoraAdapter& adapter : options.lora()) {
    Json one = Json::object();
    one["name"] = adapter.name();
    one["scale"] = adapter.has_scale() ? adapter.scale() : 1.0F;
    body["lora"].push_back(std::move(one));
  }
}

Json chat_body(const v1::ChatRequest& message) {
  Json body{{"model", message.model()}};
  add_conversation(message, "", body);
  if (message.has_tool_choice()) {
    body["tool_choice"] = to_json(message.tool_choice());
  }
  if (message.has_parallel_tool_calls()) {
    body["parallel_tool_calls"] = message.parallel_tool_calls();
  }
  add_options(message.options(), body);
  if (message.options().has_logprobs()) {
    body["logprobs"] = true;
    body["top_logprobs"] = message.options().logprobs();
  }
  add_sampling(message.sampling(), body);
  return body;
}

}  // namespace

openai::ChatRequest to_chat_request(const v1::ChatRequest& message) {
  Json body = chat_body(message);
  openai::check_ranges(Fields(body));
  return openai::to_chat_request(std::move(body));
}

openai::CompletionRequest to_completion_request(const v1::GenerateRequest& message) {
  Json body{{"model", message.model()}};
  if (message.has_text()) {
    body["prompt"] = message.text();
  } else if (message.has_tokens()) {
    body["prompt"] = message.tokens().ids();
  }
  put_if_any(body, "suffix", message.suffix());
  add_options(message.options(), body);
  if (message.options().has_logprobs()) {
    body["logprobs"] = message.options().logprobs();
  }
  add_sampling(message.sampling(), body);
  openai::check_ranges(Fields(body));
  return openai::to_completion_request(std::move(body));
}

EmbedRequest to_embed_request(const v1::EmbedRequest& message) {
  EmbedRequest request;
  request.options.model = message.model();
  request.options.priority = message.priority();
  request.param = "inputs";
  request.truncate = message.truncate();
  const auto most = static_cast<int>(kMaxTexts);
  if (message.inputs().empty() || message.inputs_size() > most) {
    throw bad_field("inputs", "\"inputs\" must have 1 to " + std::to_string(most) +
                                  " entries, not " + std::to_string(message.inputs_size()));
  }
  for (const v1::EmbedInput& input : message.inputs()) {
    const std::string name = "inputs[" + std::to_string(request.texts.size()) + "]";
    if (input.has_tokens()) {
      const auto& ids = input.tokens().ids();
      request.texts.emplace_back(std::vector<int32_t>(ids.begin(), ids.end()));
    } else if (!input.text().empty()) {
      request.texts.emplace_back(input.text());
    } else {
      throw bad_field(name, "\"" + name + "\" is empty; send some text, or tokens");
    }
  }
  if (message.has_dimensions()) {
    if (message.dimensions() < 1) {
      throw bad_field("dimensions", "\"dimensions\" must be at least 1");
    }
    request.dimensions = message.dimensions();
  }
  return request;
}

native::TokenizeRequest to_tokenize_request(const v1::TokenizeRequest& message) {
  native::TokenizeRequest request;
  request.model = message.model();
  request.add_special = message.add_special();
  request.parse_special = !message.has_parse_special() || message.parse_special();
  request.with_pieces = message.with_pieces();
  if (message.has_chat()) {
    Json body{{"model", message.model()}};
    add_conversation(message.chat(), "chat.", body);
    request.chat = openai::to_chat_request(std::move(body));
  } else if (message.has_text()) {
    request.text = message.text();
  } else {
    throw bad_field("input", "\"text\" or \"chat\" is missing: it is what to tokenize");
  }
  return request;
}

}  // namespace mlxr::rpc
