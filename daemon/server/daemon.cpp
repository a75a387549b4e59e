#include "daemon/server/daemon.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>

#include "core/base/file.h"
#include "daemon/config/paths.h"
#include "daemon/server/api.h"
#include "daemon/server/http/http_server.h"
#include "daemon/server/json_body.h"
#include "daemon/server/model_choice.h"
#include "daemon/server/services.h"

namespace mlxr {
namespace {

// What answers already under way get to reach their clients after generation has ended.
constexpr std::chrono::seconds kFlushTime{3};
constexpr int kExitSecondSignal = 130;

HttpLimits limits_of(const ServerConfig& config) {
  HttpLimits limits;
  limits.max_body_bytes = config.max_body_bytes;
  return limits;
}

// $MLXR_HOME/daemon.json says where this daemon listens, while it does.
class AddressFile {
 public:
  AddressFile(std::filesystem::path path, const Json& address) : path_(std::move(path)) {
    write_file_atomic(path_, to_text(address) + "\n");
  }
  ~AddressFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  AddressFile(const AddressFile&) = delete;
  AddressFile& operator=(const AddressFile&) = delete;

 private:
  std::filesystem::path path_;
};

// Lets the main thread sleep until somebody asks the daemon to end.
class StopRequest {
 public:
  void ask() {
    const std::lock_guard lock(mutex_);
    asked_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return asked_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false;
};

}  // namespace

// Destroyed from the bottom up: HTTP first, the models last.
struct Daemon::Impl {
  explicit Impl(DaemonOptions daemon_options);

  uint16_t listen();
  void watch_signals();
  void preload();
  void stop();
  bool let_connections_end();

  const DaemonOptions options;
  const ModelChoice choice;
  const ModelSettingsFinder settings;
  StopRequest stop_request;
  ModelManager models;
  Services services;
  Api api;
  HttpServer http;
  asio::signal_set signals;
  std::optional<AddressFile> address;
};

Daemon::Impl::Impl(DaemonOptions daemon_options)
    : options(std::move(daemon_options)),
      choice(choose_models(options.loaded.config, options.models, built_in_model())),
      settings(model_settings_folders(options.home, options.loaded.file)),
      models(choice.options, [this](const std::string& name) { return settings.find(name); }),
      services(options.loaded.config, models, settings, options.version,
               [this] { stop_request.ask(); }),
      api(services),
      http([this](Exchange& exchange) { return api.handle(exchange); },
           limits_of(options.loaded.config)),
      signals(http.context(), SIGTERM, SIGINT, SIGHUP) {}

uint16_t Daemon::Impl::listen() {
  const ServerConfig& config = options.loaded.config;
  // The socket first: its lock is what keeps two daemons of one home apart.
  create_private_folder(config.socket.parent_path());
  http.listen_on_unix(config.socket);
  const auto wanted = static_cast<uint16_t>(config.port);
  try {
    return http.listen_on_tcp(config.host, wanted);
  } catch (const Error& error) {
    // Nobody chose this port; a second daemon with its own home must not fail for it.
    if (error.code() != ErrorCode::kUnavailable || config.given.contains("port")) {
      throw;
    }
    const uint16_t port = http.listen_on_tcp(config.host, 0);
    spdlog::warn("port {} is in use by another program; listening on {} instead", wanted, port);
    return port;
  }
}

void Daemon::Impl::watch_signals() {
  signals.async_wait([this](const boost::system::error_code& problem, int number) {
    if (problem) {
      return;
    }
    spdlog::info("signal {}: shutting down; a second one ends at once", number);
    stop_request.ask();
    signals.async_wait([](const boost::system::error_code& again, int) {
      if (!again) {
        std::_Exit(kExitSecondSignal);
      }
    });
  });
}

void Daemon::Impl::preload() {
  for (const std::string& name : choice.preload) {
    asio::post(services.loads, [this, name] {
      try {
        const auto model = services.load(models.find(name));
        const LoadedModelInfo info = model->info();
        spdlog::info("loaded model=\"{}\" seconds={:.2f} repacked_mib={} repack_seconds={:.2f}",
                     name, info.load_seconds, info.repacked_bytes >> 20, info.repack_seconds);
      } catch (const std::exception& error) {
        spdlog::error("cannot load model=\"{}\": {}", name, error.what());
      }
    });
  }
}

// Answers get shutdown_timeout_s to finish; the rest is cancelled, which their clients are told.
void Daemon::Impl::stop() {
  services.draining = true;
  http.stop_accepting();
  models.drain(std::chrono::seconds(options.loaded.config.shutdown_timeout_s));
  const bool ended = let_connections_end();
  address.reset();
  spdlog::info("mlxrunnerd ends");
  if (!ended) {
    // A model load or a client holds on; nothing of value is lost by not waiting for it.
    std::error_code ignored;
    std::filesystem::remove(options.loaded.config.socket, ignored);
    spdlog::shutdown();
    std::_Exit(0);
  }
}

bool Daemon::Impl::let_connections_end() {
  http.finish_connections();
  if (http.wait_until_idle(kFlushTime)) {
    return true;
  }
  http.close_connections();
  return http.wait_until_idle(std::chrono::seconds(1));
}

Daemon::Daemon(DaemonOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Daemon::~Daemon() = default;

void Daemon::run() {
  Impl& self = *impl_;
  std::signal(SIGPIPE, SIG_IGN);
  const uint16_t port = self.listen();
  const ServerConfig& config = self.options.loaded.config;
  self.address.emplace(self.options.home / "daemon.json", Json{{"pid", ::getpid()},
                                                               {"host", config.host},
                                                               {"port", port},
                                                               {"socket", config.socket.string()},
                                                               {"version", self.options.version}});
  self.watch_signals();
  self.http.start();
  const bool is_ipv6 = config.host.find(':') != std::string::npos;
  spdlog::info("mlxrunnerd ready on http://{}:{} and unix:{}",
               is_ipv6 ? "[" + config.host + "]" : config.host, port, config.socket.string());
  self.preload();
  self.stop_request.wait();
  self.stop();
}

}  // namespace mlxr
