#include "daemon/server/native/adapter_routes.h"

#include "daemon/server/adapters.h"
#include "daemon/server/admission.h"
#include "daemon/server/http/api_error.h"
#include "daemon/server/native/model_json.h"
#include "daemon/server/openai/request_options.h"
#include "daemon/server/send_json.h"

namespace mlxr::native {
namespace {

// llama-server has one model; here "?model=" names it, else it is the default one.
std::string model_of(const Exchange& exchange) {
  const auto& query = exchange.request().query;
  const auto model = query.find("model");
  return model == query.end() ? "" : model->second;
}

Task<void> list(Services& services, Exchange& exchange) {
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(exchange, model_of(exchange));
  exchange.record.model = model->name();
  co_await send_json(exchange, adapter_list(model->adapters().list()));
}

Json success() { return {{"success", true}}; }

// In llama-server's shape: scales of some, 0 for the others.
Task<void> set_scales(Services& services, Exchange& exchange) {
  const std::vector<AdapterChoice> choice = co_await services.run_on(services.work, [&exchange] {
    return openai::read_adapters(parse_json_array(exchange.request().body), "");
  });
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(exchange, model_of(exchange));
  exchange.record.model = model->name();
  co_await services.run_on(services.loads, [&] {
    set_default_adapters(*model, choice);
    return true;
  });
  co_await send_json(exchange, success());
}

struct AddRequest {
  std::string model;
  AdapterSettings adapter;
};

AddRequest read_add_request(const Exchange& exchange) {
  const Json body = parse_json_object(exchange.request().body);
  const Fields fields(body);
  AddRequest request;
  request.model = fields.string("model").value_or("");
  request.adapter.path = fields.string("path").value_or("");
  request.adapter.name = fields.string("name").value_or(model_name(request.adapter.path));
  require_unix_socket(exchange, "adding an adapter by its path");
  if (!request.adapter.path.is_absolute()) {
    throw bad_field(
        "path", "\"path\" must be an absolute path, not \"" + request.adapter.path.string() + "\"");
  }
  if (request.adapter.name.empty()) {
    throw bad_field("name", "\"name\" is empty");
  }
  return request;
}

// Read at once: what is wrong with it is told here.
Json add_to(ModelManager& models, ServedModel& model, const AdapterSettings& adapter) {
  add_adapter(models, model, adapter);
  for (const AdapterInfo& info : model.adapters().list()) {
    if (info.settings.name == adapter.name) {
      return adapter_json(info);
    }
  }
  return Json::object();
}

Task<void> add(Services& services, Exchange& exchange) {
  const AddRequest request =
      co_await services.run_on(services.work, [&exchange] { return read_add_request(exchange); });
  const std::shared_ptr<ServedModel> model = co_await services.acquire(exchange, request.model);
  exchange.record.model = model->name();
  Json body = co_await services.run_on(
      services.loads, [&] { return add_to(services.models, *model, request.adapter); });
  co_await send_json(exchange, std::move(body));
}

// Requests that have it keep it.
Task<void> remove_one(Services& services, Exchange& exchange) {
  const std::string name = exchange.request().path_values.at("name");
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(exchange, model_of(exchange));
  exchange.record.model = model->name();
  remove_adapter(services.models, *model, name);
  co_await send_json(exchange, success());
}

}  // namespace

void add_adapter_routes(Router& router, Services& services) {
  const auto with = [&services](Task<void> (*endpoint)(Services&, Exchange&)) -> Handler {
    return [&services, endpoint](Exchange& exchange) { return endpoint(services, exchange); };
  };
  router.add({"GET",
              "/lora-adapters",
              Access::kInference,
              "A model's LoRA adapters",
              {"", "LoraAdapters"}},
             with(list));
  router.add({"POST",
              "/lora-adapters",
              Access::kAdmin,
              "Choose the adapters of requests that name none",
              {"LoraScales", "LoraSuccess"}},
             with(set_scales));
  router.add({"POST",
              "/mlxr/v1/adapters",
              Access::kAdmin,
              "Give a loaded model one more adapter",
              {"AdapterRequest", "LoraAdapter"}},
             with(add));
  router.add({"DELETE",
              "/mlxr/v1/adapters/{name}",
              Access::kAdmin,
              "Take an adapter from a loaded model",
              {"", "LoraSuccess"}},
             with(remove_one));
}

}  // namespace mlxr::native
