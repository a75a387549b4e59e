// What request handlers work with. Lives as long as the HTTP server.
#pragma once

#include <utility>  // before Asio: see http/async.h

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "core/base/error.h"
#include "daemon/config/model_settings.h"
#include "daemon/config/server_config.h"
#include "daemon/registry/blob_store.h"
#include "daemon/registry/created_models.h"
#include "daemon/scheduler/model_manager.h"
#include "daemon/server/auth/key_ring.h"
#include "daemon/server/auth/rate_limit.h"
#include "daemon/server/http/async.h"
#include "daemon/server/http/exchange.h"
#include "daemon/server/http/kept_stream.h"
#include "daemon/server/openai/response_store.h"
#include "daemon/server/prompt_builder.h"
#include "daemon/telemetry/request_counts.h"
#include "daemon/telemetry/trace.h"

namespace mlxr {

namespace openai {
struct RequestOptions;
}

struct Services {
  // `home`: $MLXR_HOME, where keys, created models and blobs lie.
  Services(const ServerConfig& server_config, ModelManager& model_manager,
           ModelSettingsFinder model_settings, const std::filesystem::path& home,
           std::string program_version, std::function<void()> shutdown);

  // Runs a blocking function on a pool's thread; the coroutine goes on on its own executor.
  template <typename Function>
  Task<std::invoke_result_t<Function>> run_on(asio::thread_pool& pool, Function function);

  // The model, loaded if need be, for as long as somebody holds it. A request that waits for a load
  // holds nothing but its place: it ends with its `timeout` (that of the settings in any case) and
  // when its client goes. A file that cannot be loaded is kCorruptFile or kUnsupported, naming it.
  Task<std::shared_ptr<ServedModel>> acquire(
      Exchange& exchange, std::string name,
      std::optional<std::chrono::milliseconds> timeout = std::nullopt,
      KeptStream* stream = nullptr);
  // For an answer; `stream` is kept alive meanwhile where the client asked for one.
  Task<std::shared_ptr<ServedModel>> acquire(Exchange& exchange,
                                             const openai::RequestOptions& options,
                                             KeptStream& stream);
  double uptime_seconds() const;

  const ServerConfig& config;
  ModelManager& models;
  const ModelSettingsFinder settings;
  KeyRing keys;
  RateLimiter limiter;
  openai::ResponseStore responses;
  const CreatedModels created;
  const BlobStore blobs;
  const std::string version;
  const std::function<void()> request_shutdown;
  const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::atomic<bool> draining{false};
  RequestCounts requests;
  std::shared_ptr<const Trace> trace;  // null: nothing is traced
  PromptBuilder prompts;
  asio::thread_pool work{2};   // parsing, templates, tokenizing, reading headers of files
  asio::thread_pool loads{8};  // what takes long: unloading models, opening those that are shown
};

// What a request may take at most: its own timeout, and that of the settings.
std::optional<std::chrono::milliseconds> time_limit(
    const ServerConfig& config, std::optional<std::chrono::milliseconds> timeout);

// Where created models are kept.
std::filesystem::path created_models_folder(const std::filesystem::path& home);

// What went wrong with a model's files, as its clients hear it: with the path, and a missing part
// as damage, not as "no such model".
Error about_model(const Error& error, const ModelEntry& entry);
[[noreturn]] void rethrow_about_model(const std::exception_ptr& failure, const ModelEntry& entry);

template <typename Function>
Task<std::invoke_result_t<Function>> Services::run_on(asio::thread_pool& pool, Function function) {
  using Result = std::invoke_result_t<Function>;
  // A named coroutine function with its own copy: a lambda coroutine's captures would be gone.
  struct Runner {
    static Task<Result> run(Function call) { co_return call(); }
  };
  co_return co_await asio::co_spawn(pool, Runner::run(std::move(function)), asio::use_awaitable);
}

}  // namespace mlxr
