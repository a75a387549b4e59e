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
#include "daemon/scheduler/model_manager.h"
#include "daemon/server/http/async.h"
#include "daemon/server/prompt_builder.h"

namespace mlxr {

struct Services {
  Services(const ServerConfig& server_config, ModelManager& model_manager,
           ModelSettingsFinder model_settings, std::string program_version,
           std::function<void()> shutdown);

  // Runs a blocking function on a pool's thread; the coroutine goes on on its own executor.
  template <typename Function>
  Task<std::invoke_result_t<Function>> run_on(asio::thread_pool& pool, Function function);

  // The model, loaded if need be. Loads run apart from everything else, so that requests to loaded
  // models never wait behind one.
  Task<std::shared_ptr<ServedModel>> acquire(std::string name);
  // The same, blocking. A file that cannot be loaded is kCorruptFile or kUnsupported, naming it.
  std::shared_ptr<ServedModel> load(const ModelEntry& entry);
  bool is_loaded(const std::string& name) const;
  // Tokens that a sequence of this model may hold here, loaded or not.
  int32_t context_length(const std::string& name, const ModelFacts& facts) const;

  const ServerConfig& config;
  ModelManager& models;
  const ModelSettingsFinder settings;
  const std::string version;
  const std::function<void()> request_shutdown;
  const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::atomic<bool> draining{false};
  PromptBuilder prompts;
  asio::thread_pool work{2};   // parsing, templates, tokenizing, reading headers of files
  asio::thread_pool loads{8};  // loading and unloading models
};

// What went wrong with a model's files, as its clients hear it: with the path, and a missing part
// as damage, not as "no such model".
Error about_model(const Error& error, const ModelEntry& entry);

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
