#include "daemon/server/services.h"

#include <algorithm>

#include "daemon/server/load_wait.h"
#include "daemon/server/openai/request_options.h"

namespace mlxr {

Services::Services(const ServerConfig& server_config, ModelManager& model_manager,
                   ModelSettingsFinder model_settings, const std::filesystem::path& home,
                   std::string program_version, std::function<void()> shutdown)
    : config(server_config),
      models(model_manager),
      settings(std::move(model_settings)),
      keys(KeyStore(home)),
      limiter({config.requests_per_minute, config.tokens_per_minute, config.concurrent_requests}),
      responses(config.response_store_bytes),
      created(created_models_folder(home)),
      blobs(home / "blobs"),
      version(std::move(program_version)),
      request_shutdown(std::move(shutdown)) {}

double Services::uptime_seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

Task<std::shared_ptr<ServedModel>> Services::acquire(
    Exchange& exchange, std::string name, std::optional<std::chrono::milliseconds> timeout,
    KeptStream* stream) {
  const ModelEntry entry = co_await run_on(work, [this, &name] { return models.find(name); });
  if (std::shared_ptr<ServedModel> model = models.acquire_loaded(entry)) {
    co_return model;
  }
  LoadWait wait(models, exchange);
  wait.begin(entry, time_limit(config, timeout));
  co_return co_await wait.end(entry, stream);
}

Task<std::shared_ptr<ServedModel>> Services::acquire(Exchange& exchange,
                                                     const openai::RequestOptions& options,
                                                     KeptStream& stream) {
  return acquire(exchange, options.model, options.timeout, options.stream ? &stream : nullptr);
}

std::optional<std::chrono::milliseconds> time_limit(
    const ServerConfig& config, std::optional<std::chrono::milliseconds> timeout) {
  if (config.request_timeout_s == 0) {
    return timeout;
  }
  const std::chrono::milliseconds longest = std::chrono::seconds(config.request_timeout_s);
  return std::min(timeout.value_or(longest), longest);
}

std::filesystem::path created_models_folder(const std::filesystem::path& home) {
  return home / "created";
}

namespace {

bool is_about_file(const Error& error) {
  return error.code() == ErrorCode::kCorruptFile || error.code() == ErrorCode::kUnsupported ||
         error.code() == ErrorCode::kNotFound;
}

}  // namespace

void rethrow_about_model(const std::exception_ptr& failure, const ModelEntry& entry) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    if (is_about_file(error)) {
      throw about_model(error, entry);
    }
    throw;
  }
}

Error about_model(const Error& error, const ModelEntry& entry) {
  if (!is_about_file(error)) {
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
