#include "cli/model_argument.h"

#include "cli/client/daemon_process.h"
#include "core/runtime/model.h"
#include "daemon/config/paths.h"
#include "daemon/scheduler/model_catalog.h"
#include "daemon/server/model_choice.h"

namespace mlxr::cli {

namespace fs = std::filesystem;

bool is_model_path_argument(const std::string& model) {
  return model.find('/') != std::string::npos || model.ends_with(".gguf") || is_model_path(model);
}

std::string model_argument_name(const std::string& model) {
  return is_model_path_argument(model) ? model_name(model) : model;
}

fs::path model_path(const std::string& model, const std::optional<fs::path>& socket) {
  const ModelChoice choice = choose_models(daemon_settings(socket), {model}, built_in_model());
  return choice.options.model_paths.back();
}

std::string load_in_daemon(const DaemonClient& client, const std::string& model) {
  const Json body = is_model_path_argument(model)
                        ? Json{{"path", fs::absolute(model).lexically_normal().string()}}
                        : Json{{"name", model}};
  return client.post("/mlxr/v1/load", body, "loading " + model_argument_name(model))
      .value("name", model);
}

}  // namespace mlxr::cli
