#include "daemon/server/adapters.h"

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

// An adapter's troubles are not the model's.
template <class Call>
auto about_lora(const Call& call) {
  try {
    return call();
  } catch (const Error& error) {
    ApiError api = to_api_error(error.code(), error.what(), false);
    api.param = "lora";
    if (error.code() == ErrorCode::kNotFound) {
      api.code = "adapter_not_found";
    } else if (error.code() == ErrorCode::kCorruptFile) {
      api.code = "adapter_corrupt";
    }
    throw RequestError(api);
  }
}

}  // namespace

std::vector<ScaledAdapter> adapters_for(ServedModel& model,
                                        const std::optional<std::vector<AdapterChoice>>& choice) {
  return about_lora([&] { return model.adapters().chosen(choice); });
}

void add_adapter(ModelManager& models, ServedModel& model, const AdapterSettings& adapter) {
  about_lora([&] { models.add_adapter(model, adapter); });
}

void remove_adapter(ModelManager& models, ServedModel& model, const std::string& name) {
  about_lora([&] { models.remove_adapter(model, name); });
}

void set_default_adapters(ServedModel& model, const std::vector<AdapterChoice>& choice) {
  about_lora([&] { model.adapters().set_defaults(choice); });
}

}  // namespace mlxr
