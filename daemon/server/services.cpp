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
  const bool loaded = co_await run_on(work, [this, &name] {
    name = models.find(name).name;
    return is_loaded(name);
  });
  co_return co_await run_on(loaded ? work : loads,
                            [this, &name] { return models.acquire(name); });
}

}  // namespace mlxr
