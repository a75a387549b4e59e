#include "daemon/server/grpc/model_methods.h"

#include <google/protobuf/util/json_util.h>
#include <mlxr/v1/metrics.pb.h>
#include <mlxr/v1/models.pb.h>

#include "daemon/server/grpc/message.h"
#include "daemon/server/native/metrics.h"
#include "daemon/server/native/model_json.h"
#include "daemon/server/native/routes.h"

namespace mlxr::rpc {
namespace {

// What the REST API says of a model, in a message whose fields have the same names.
template <typename Message>
Message from_json(const Json& json) {
  Message message;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(to_text(json), &message, options);
  if (!status.ok()) {
    throw Error(ErrorCode::kInternal, "a model's description is no " +
                                          std::string(message.GetTypeName()) + ": " +
                                          std::string(status.message()));
  }
  return message;
}

v1::ListModelsResponse all_models(Services& services) {
  v1::ListModelsResponse response;
  for (const ModelEntry& entry : services.models.list()) {
    *response.add_models() = from_json<v1::Model>(native::model_summary(services, entry));
  }
  return response;
}

std::string name_to_load(Services& services, const Call& call) {
  const auto request = read_message<v1::LoadModelRequest>(call);
  if (request.has_path()) {
    return native::add_path(services, call, request.path());
  }
  if (request.name().empty()) {
    throw bad_field("name", "\"name\" is missing: it is the name of a model");
  }
  return request.name();
}

v1::UnloadModelResponse unload(Services& services, const Call& call) {
  const auto request = read_message<v1::UnloadModelRequest>(call);
  if (request.name().empty()) {
    throw bad_field("name", "\"name\" is missing: it is the name of a model");
  }
  v1::UnloadModelResponse response;
  response.set_name(services.models.find_in_memory(request.name()));
  response.set_unloaded(services.models.unload(response.name()));
  return response;
}

v1::GetMetricsResponse all_metrics(const Services& services) {
  v1::GetMetricsResponse response;
  response.set_text(native::metrics_text(services));
  return response;
}

}  // namespace

Task<void> list_models(Services& services, Call& call) {
  Response response = co_await services.run_on(
      services.work, [&services] { return to_response(all_models(services)); });
  co_await call.respond(std::move(response));
}

Task<void> get_model(Services& services, Call& call) {
  Response response = co_await services.run_on(services.loads, [&] {
    const auto request = read_message<v1::GetModelRequest>(call);
    return to_response(from_json<v1::Model>(native::model_details(services, request.name())));
  });
  co_await call.respond(std::move(response));
}

Task<void> load_model(Services& services, Call& call) {
  const std::string name =
      co_await services.run_on(services.work, [&] { return name_to_load(services, call); });
  const std::shared_ptr<ServedModel> model =
      co_await services.acquire(call, name, call.time_left());
  call.record.model = model->name();
  co_await call.respond(
      to_response(from_json<v1::LoadedModel>(native::loaded_model(model->info()))));
}

Task<void> unload_model(Services& services, Call& call) {
  Response response =
      co_await services.run_on(services.loads, [&] { return to_response(unload(services, call)); });
  co_await call.respond(std::move(response));
}

Task<void> get_metrics(Services& services, Call& call) {
  co_await call.respond(to_response(all_metrics(services)));
}

}  // namespace mlxr::rpc
