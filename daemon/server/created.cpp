#include "daemon/server/created.h"

#include <algorithm>
#include <limits>

#include "daemon/registry/blob_models.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/options.h"

namespace mlxr {
namespace {

// A created model's parameters in the names of the normal form.
Json defaults_of(const CreatedModel& model) {
  Json wrapped = Json::object(), body = Json::object();
  wrapped["options"] = model.parameters;
  ollama::translate_options(Fields(wrapped), body);
  body.erase("model");
  body.erase("stream");
  return body;
}

void add_missing(const Json& defaults, Json& body) {
  const bool has_limit = body.contains("max_completion_tokens");
  for (const auto& [name, value] : defaults.items()) {
    const bool said = body.contains(name) && !body[name].is_null();
    if (!said && !(name == "max_tokens" && has_limit)) {
      body[name] = value;
    }
  }
}

Json begun_messages(const CreatedModel& model, const Json& messages) {
  Json all = Json::array();
  const bool has_system = !messages.empty() && messages[0]["role"] == "system";
  if (has_system) {
    all.push_back(messages[0]);
  } else if (!model.system.empty()) {
    all.push_back({{"role", "system"}, {"content", model.system}});
  }
  all.insert(all.end(), model.messages.begin(), model.messages.end());
  all.insert(all.end(), messages.begin() + (has_system ? 1 : 0), messages.end());
  return all;
}

bool is_file(const Services& services, const std::string& name) {
  const std::vector<ModelEntry> entries = services.models.list();
  return !services.created.find(name) &&
         std::any_of(entries.begin(), entries.end(),
                     [&](const ModelEntry& entry) { return entry.name == name; });
}

}  // namespace

openai::ChatRequest with_created(const Services& services, const std::string& model,
                                 openai::ChatRequest request, CreatedMessages messages) {
  auto created = services.created.find(model);
  if (!created) {
    return request;
  }
  if (messages == CreatedMessages::kLeftOut) {
    created->messages = Json::array();
  }
  Json body = std::move(request.body);
  add_missing(defaults_of(*created), body);
  body["messages"] = begun_messages(*created, request.messages);
  openai::ChatRequest with = openai::to_chat_request(std::move(body));
  with.options.shift_by_default = request.options.shift_by_default;
  return with;
}

openai::CompletionRequest with_created(const Services& services, const std::string& model,
                                       openai::CompletionRequest request) {
  const auto created = services.created.find(model);
  if (!created) {
    return request;
  }
  add_missing(defaults_of(*created), request.body);
  return openai::to_completion_request(std::move(request.body));
}

ModelSettings with_created(ModelSettings settings, const CreatedModel& model) {
  if (!model.chat_template.empty()) {
    settings.chat_template = model.chat_template;
  }
  for (const CreatedAdapter& adapter : model.adapters) {
    settings.adapters.push_back({adapter.name, adapter.path, 1});
  }
  const auto length = model.parameters.find("num_ctx");
  if (length != model.parameters.end() && length->is_number_integer() &&
      length->get<int64_t>() > 0) {
    settings.context_length = static_cast<int32_t>(
        std::min<int64_t>(length->get<int64_t>(), std::numeric_limits<int32_t>::max()));
  }
  return settings;
}

void keep_created(Services& services, const CreatedModel& model) {
  check_model_name(model.name);
  if (is_file(services, model.name)) {
    throw bad_field("model", "there is a model file called \"" + model.name +
                                 "\" already; choose another name");
  }
  services.created.put(model);
  services.models.unload(model.name);
}

void erase_created(Services& services, const std::string& asked) {
  const ModelEntry entry = services.models.find(asked);
  const std::string& name = entry.name;
  const auto model = services.created.find(name);
  if (!model) {
    throw RequestError({403,
                        "\"" + entry.name +
                            "\" is a file in a model folder, which belongs to you: "
                            "remove " +
                            entry.path.string() + " there",
                        "invalid_request_error", "model", "model_is_a_file"});
  }
  services.created.erase(name);
  services.models.forget(name);
  std::vector<std::filesystem::path> others;
  for (const CreatedModel& other : services.created.list()) {
    others.push_back(other.from);
    for (const CreatedAdapter& adapter : other.adapters) {
      others.push_back(adapter.path);
    }
  }
  remove_blobs(services.blobs, model->from, others);
  for (const CreatedAdapter& adapter : model->adapters) {
    remove_blobs(services.blobs, adapter.path, others);
  }
}

}  // namespace mlxr
