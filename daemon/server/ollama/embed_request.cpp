#include "daemon/server/ollama/embed_request.h"

#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/options.h"
#include "daemon/server/ollama/requests.h"

namespace mlxr::ollama {
namespace {

// A string or an array of strings; nothing, or an empty string, only loads the model.
void read_input(const Fields& fields, EmbedRequest& request) {
  const Json* input = fields.value("input");
  if (input == nullptr || *input == "") {
    return;
  }
  request.many = input->is_array();
  const Json list = request.many ? *input : Json::array({*input});
  if (list.size() > kMaxTexts) {
    throw bad_field("input", "\"input\" has " + std::to_string(list.size()) +
                                 " entries; one request may have " + std::to_string(kMaxTexts));
  }
  for (const Json& text : list) {
    if (!text.is_string()) {
      throw bad_field("input", "\"input\" must be a string or an array of strings, not " +
                                   to_text(*input).substr(0, 60));
    }
    request.texts.emplace_back(text.get<std::string>());
  }
}

void read_prompt(const Fields& fields, EmbedRequest& request) {
  request.param = "prompt";
  request.many = false;
  const std::string prompt = fields.string("prompt").value_or("");
  if (!prompt.empty()) {
    request.texts.emplace_back(prompt);
  }
}

// Options are checked, though none of them changes a vector.
void read_options(const Fields& fields, EmbedRequest& request) {
  Json body = Json::object(), options = Json::object();
  if (const Json* given = fields.object("options")) {
    options["options"] = *given;
  }
  openai::copy_scheduling(fields, body);
  const FieldLog::Pause pause;  // of what was copied
  openai::read_scheduling(Fields(body), request.options);
  translate_options(Fields(options), body);
}

}  // namespace

OllamaEmbedRequest read_embed_request(const std::string& text, bool legacy) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  OllamaEmbedRequest request;
  EmbedRequest& embed = request.embed;
  read_options(fields, embed);
  embed.options.model = read_model(fields);
  request.keep_alive = read_keep_alive(fields);
  if (legacy) {
    read_prompt(fields, embed);
    embed.truncate = true;
    return request;
  }
  read_input(fields, embed);
  embed.truncate = fields.boolean("truncate").value_or(true);
  // 0 is Ollama's word for all.
  const int64_t dimensions = fields.integer("dimensions", 0, INT32_MAX).value_or(0);
  if (dimensions > 0) {
    embed.dimensions = static_cast<int32_t>(dimensions);
  }
  return request;
}

}  // namespace mlxr::ollama
