#include "daemon/server/services.h"

#include <algorithm>

namespace mlxr {

Services::Services(const ServerConfig& server_config, ModelManager& model_manager,
                   ModelSettingsFinder model_settings, std::string program_version,
                   std::function<void()> shutdown)
    : config(server_config),
      models(model_manager),
      settings(std::move(model_settings)),
      version(std::move(program_version)),
      request_shutdown(std::move(shutdown)) {}

bool Services::is_loaded(const std::string& name) const {
  const std::vector<LoadedModelInfo> loaded = models.loaded();
  return std::any_of(loaded.begin(), loaded.end(),
                     [&](const LoadedModelInfo& model) { return model.name == name; });
}

int32_t Services::context_length(const std::string& name, const ModelFacts& facts) const {
  const std::optional<int32_t> own = settings.find(name).context_length;
  if (own) {
    return *own;
  }
  return config.context_length > 0 ? config.context_length : facts.context_length;
}

Task<std::shared_ptr<ServedModel>> Services::acquire(std::string name) {
  const ModelEntry entry = co_await run_on(work, [this, &name] { return models.find(name); });
  co_return co_await run_on(is_loaded(entry.name) ? work : loads,
                            [this, &entry] { return load(entry); });
}

std::shared_ptr<ServedModel> Services::load(const ModelEntry& entry) {
  try {
    return models.acquire(entry.name);
  } catch (const Error& error) {
    throw about_model(error, entry);
  }
}

Error about_model(const Error& error, const ModelEntry& entry) {
  const bool about_file = error.code() == ErrorCode::kCorruptFile ||
                          error.code() == ErrorCode::kUnsupported ||
                          error.code() == ErrorCode::kNotFound;
  if (!about_file) {
    return error;
  }
  // The model was found; what is missing is a part of it.
  const bool incomplete =
      error.code() == ErrorCode::kNotFound && std::filesystem::exists(entry.path);
  const std::string message = error.what();
  const std::string path = entry.path.string();
  return {incomplete ? ErrorCode::kCorruptFile : error.code(),
          message.find(path) == std::string::npos ? path + ": " + message : message};
}

}  // namespace mlxr
