#include "daemon/server/ollama/create.h"

#include <algorithm>
#include <memory>

#include "core/runtime/chat/chat_template.h"
#include "daemon/registry/blob_models.h"
#include "daemon/server/created.h"
#include "daemon/server/field_log.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/ollama/options.h"
#include "daemon/server/ollama/requests.h"

namespace mlxr::ollama {
namespace {

constexpr const char* kNdjson = "application/x-ndjson";

// What this server cannot put over a model.
void refuse_what_is_not_served(const Fields& fields) {
  const FieldLog::Pause pause;
  if (!fields.string("quantize").value_or("").empty()) {
    throw bad_field(
        "quantize",
        "\"quantize\" is not supported here; use `mlx convert` and create from its file",
        "unsupported_parameter");
  }
  if (fields.has("modelfile")) {
    throw bad_field("modelfile",
                    "\"modelfile\" is not read: send its lines as \"from\", \"files\", \"system\", "
                    "\"template\", \"parameters\" and \"messages\"",
                    "unsupported_parameter");
  }
}

bool is_go_template(const std::string& text) {
  for (size_t at = text.find("{{"); at != std::string::npos; at = text.find("{{", at + 2)) {
    const size_t word = text.find_first_not_of("- ", at + 2);
    const std::string rest = word == std::string::npos ? "" : text.substr(word, 6);
    for (const char* mark : {".", "if ", "range ", "end", "else", "with "}) {
      if (rest.starts_with(mark)) {
        return true;
      }
    }
  }
  return false;
}

std::string read_template(const Fields& fields) {
  const std::string text = fields.string("template").value_or("");
  if (is_go_template(text)) {
    throw bad_field("template",
                    "\"template\" is a Go template; this server reads Jinja. Leave it out: the "
                    "model's own template is used then",
                    "unsupported_parameter");
  }
  if (!text.empty()) {
    try {
      const ChatTemplate checked(text, "", "");
    } catch (const Error& error) {
      throw bad_field("template", std::string("\"template\": ") + error.what());
    }
  }
  return text;
}

std::string read_license(const Fields& fields) {
  const Json* license = fields.value("license");
  std::string text;
  if (license != nullptr && license->is_array()) {
    for (const Json& one : *license) {
      text +=
          (text.empty() ? "" : "\n") + (one.is_string() ? one.get<std::string>() : to_text(one));
    }
    return text;
  }
  return fields.string("license").value_or("");
}

Json read_messages(const Fields& fields) {
  Json messages = Json::array();
  const Json* given = fields.array("messages");
  for (size_t i = 0; given != nullptr && i < given->size(); ++i) {
    const std::string path = "messages[" + std::to_string(i) + "]";
    if (!(*given)[i].is_object()) {
      throw bad_field(path, "\"" + path + "\" must be an object");
    }
    const Fields message((*given)[i], path + ".");
    const std::string role = message.string("role").value_or("");
    if (role != "system" && role != "user" && role != "assistant") {
      throw bad_field(path + ".role", "\"" + path + ".role\" must be system, user or assistant");
    }
    messages.push_back({{"role", role}, {"content", message.string("content").value_or("")}});
  }
  return messages;
}

// Checked as those of a request are.
Json read_parameters(const Fields& fields) {
  const Json* parameters = fields.object("parameters");
  if (parameters == nullptr) {
    return Json::object();
  }
  Json wrapped = Json::object(), body = Json::object();
  wrapped["options"] = *parameters;
  translate_options(Fields(wrapped), body);
  const FieldLog::Pause pause;
  openai::read_options(Fields(body));
  return *parameters;
}

std::map<std::string, std::string> read_files(const Fields& fields, const std::string& field) {
  std::map<std::string, std::string> files;
  const Json* given = fields.object(field);
  if (given != nullptr) {
    const Fields inner(*given, field + ".");
    for (const auto& [name, digest] : given->items()) {
      files[name] = inner.string(name).value_or("");
    }
  }
  return files;
}

// What the new model does not say it has from its parent.
void inherit(const CreatedModel& parent, CreatedModel& model) {
  const auto take = [](const std::string& from, std::string& into) {
    into = into.empty() ? from : into;
  };
  take(parent.chat_template, model.chat_template);
  take(parent.system, model.system);
  take(parent.license, model.license);
  if (model.messages.empty()) {
    model.messages = parent.messages;
  }
  model.adapters = parent.adapters;
  Json parameters = parent.parameters;
  parameters.update(model.parameters);
  model.parameters = std::move(parameters);
}

void find_weights(Services& services, const CreateRequest& request, CreatedModel& model) {
  if (!request.files.empty()) {
    model.from = link_blobs(services.blobs, request.files);
    return;
  }
  const ModelEntry entry = services.models.find(request.from);
  model.from = entry.path;
  model.parent = entry.name;
  if (const auto parent = services.created.find(entry.name)) {
    inherit(*parent, model);
    model.from = parent->from;
  }
}

// Read once here, with the model that they are for, so that what is wrong is told now.
void add_adapters(Services& services, const CreateRequest& request, CreatedModel& model) {
  if (request.adapters.empty()) {
    return;
  }
  model.adapters = link_adapter_blobs(services.blobs, request.adapters);
  const auto weights = load_model(model.from);
  ThreadPool threads(1);
  for (const CreatedAdapter& adapter : model.adapters) {
    load_adapter(adapter.path, *weights, threads);
  }
}

void create_model(Services& services, const CreateRequest& request) {
  CreatedModel model = request.model;
  find_weights(services, request, model);
  read_model_facts(model.from);
  add_adapters(services, request, model);
  keep_created(services, model);
}

std::string status_line(const char* status) {
  Json line = Json::object();
  line["status"] = status;
  return to_text(line) + "\n";
}

Task<void> create(Services& services, Exchange& exchange) {
  const CreateRequest request = co_await services.run_on(
      services.work, [&exchange] { return read_create_request(exchange.request().body); });
  co_await services.run_on(services.loads, [&] {
    create_model(services, request);
    return true;
  });
  Response response;
  response.body = status_line("success");
  if (request.stream) {
    response.content_type = kNdjson;
    response.body.insert(0, status_line("writing manifest"));
  }
  co_await exchange.respond(std::move(response));
}

void copy_model(Services& services, const CopyRequest& request) {
  const ModelEntry entry = services.models.find(request.source);
  CreatedModel model;
  if (const auto created = services.created.find(entry.name)) {
    model = *created;
  } else {
    model.from = entry.path;
    model.parent = entry.name;
  }
  model.name = request.destination;
  keep_created(services, model);
}

Response done() { return {200, "application/json", "", {}}; }

Task<void> copy(Services& services, Exchange& exchange) {
  co_await services.run_on(services.loads, [&] {
    copy_model(services, read_copy_request(exchange.request().body));
    return true;
  });
  co_await exchange.respond(done());
}

Task<void> erase(Services& services, Exchange& exchange) {
  co_await services.run_on(services.loads, [&] {
    const Json body = parse_json_object(exchange.request().body);
    erase_created(services, read_model(Fields(body)));
    return true;
  });
  co_await exchange.respond(done());
}

const std::string& digest_of(const Exchange& exchange) {
  return exchange.request().path_values.at("digest");
}

ApiError no_such_blob() { return {404, "there is no such blob", "invalid_request_error", "", ""}; }

Task<void> find_blob(Services& services, Exchange& exchange) {
  if (!services.blobs.has(digest_of(exchange))) {
    throw RequestError(no_such_blob());
  }
  co_await exchange.respond(done());
}

Response blob_kept() { return {201, "application/json", "", {}}; }

// Written while it arrives: a model does not fit into memory twice.
Task<void> take_blob(Services& services, Exchange& exchange) {
  const std::string digest = digest_of(exchange);
  if (services.blobs.has(digest)) {
    co_await exchange.respond(done());
    co_return;
  }
  const auto upload = std::make_unique<BlobStore::Upload>(services.blobs, digest);
  std::string piece;
  while (true) {
    if (!co_await exchange.read_piece(piece)) {
      co_return;
    }
    if (piece.empty()) {
      break;
    }
    co_await services.run_on(services.work, [&upload, &piece] {
      upload->write(piece);
      return true;
    });
  }
  co_await services.run_on(services.loads, [&upload] {
    upload->commit();
    return true;
  });
  co_await exchange.respond(blob_kept());
}

}  // namespace

CreateRequest read_create_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  refuse_what_is_not_served(fields);
  CreateRequest request;
  request.model.name = untagged(read_model(fields));
  request.from = fields.string("from").value_or("");
  request.files = read_files(fields, "files");
  request.adapters = read_files(fields, "adapters");
  if (request.from.empty() == request.files.empty()) {
    throw bad_field("from",
                    "send either \"from\", the name of a model that is here, or \"files\", the "
                    "names and digests of uploaded blobs");
  }
  request.model.chat_template = read_template(fields);
  request.model.system = fields.string("system").value_or("");
  request.model.license = read_license(fields);
  request.model.messages = read_messages(fields);
  request.model.parameters = read_parameters(fields);
  request.stream = fields.boolean("stream").value_or(true);
  return request;
}

CopyRequest read_copy_request(const std::string& text) {
  const Json body = parse_json_object(text);
  const Fields fields(body);
  CopyRequest request{fields.string("source").value_or(""),
                      untagged(fields.string("destination").value_or(""))};
  for (const auto& [name, value] :
       {std::pair{"source", &request.source}, std::pair{"destination", &request.destination}}) {
    if (value->empty()) {
      throw bad_field(name, "\"" + std::string(name) + "\" is missing: it is the name of a model");
    }
  }
  return request;
}

void add_create_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"POST",
              "/api/create",
              Access::kAdmin,
              "Make a model out of another",
              {"OllamaCreateRequest", "Status", kNdjson}},
             with(create));
  router.add({"POST",
              "/api/copy",
              Access::kAdmin,
              "Give a model a second name",
              {"OllamaCopyRequest", ""}},
             with(copy));
  router.add({"DELETE",
              "/api/delete",
              Access::kAdmin,
              "Delete a created model",
              {"OllamaShowRequest", ""}},
             with(erase));
  router.add({"HEAD", "/api/blobs/{digest}", Access::kInference, "Look for a blob"},
             with(find_blob));
  router.add({"POST", "/api/blobs/{digest}", Access::kAdmin, "Upload a blob", {}, true},
             with(take_blob));
}

}  // namespace mlxr::ollama
