#include "daemon/server/daemon.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>

#include "core/base/file.h"
#include "daemon/config/paths.h"
#include "daemon/config/settings.h"
#include "daemon/server/api.h"
#include "daemon/server/created.h"
#include "daemon/server/grpc/grpc_server.h"
#include "daemon/server/http/http_server.h"
#include "daemon/server/http/tls.h"
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

ModelManagerOptions with_created_models(ModelManagerOptions options, const CreatedModels& created) {
  options.created_models = [&created] {
    std::vector<ModelEntry> entries;
    for (const CreatedModel& model : created.list()) {
      entries.push_back({model.name, model.from, false});
    }
    return entries;
  };
  return options;
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

// Each connection is an open file; the usual limit of 1024 is for programs that use select().
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

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

struct Adopted {
  bool tcp = false, unix_socket = false;
};

template <typename Server>
Adopted adopt(Server& server, const std::vector<PassedSocket>& sockets) {
  Adopted adopted;
  for (const PassedSocket& socket : sockets) {
    if (socket.is_unix) {
      server.adopt_unix(socket.descriptor);
      adopted.unix_socket = true;
    } else {
      server.adopt_tcp(socket.descriptor, socket.address.find(':') != std::string::npos);
      adopted.tcp = true;
    }
  }
  return adopted;
}

// A passed one, else the one beside that of HTTP as the settings have it.
std::filesystem::path grpc_socket_of(const DaemonOptions& options) {
  for (const PassedSocket& socket : options.sockets.grpc) {
    if (socket.is_unix) {
      return socket.address;
    }
  }
  return rpc::socket_beside(options.loaded.config.socket);
}

// Where the daemon can be reached.
Json address_of(const DaemonOptions& options, uint16_t port, uint16_t grpc_port,
                const std::filesystem::path& grpc_socket) {
  const ServerConfig& config = options.loaded.config;
  Json address{{"pid", ::getpid()},
               {"host", config.host},
               {"port", port},
               {"socket", config.socket.string()},
               {"grpc_socket", grpc_socket.string()},
               {"version", options.version}};
  if (grpc_port != 0) {
    address["grpc_port"] = grpc_port;
  }
  address["tls"] = !config.tls_cert.empty();
  return address;
}

DaemonOptions with_passed_sockets(DaemonOptions options) {
  apply_passed_sockets(options.sockets, options.loaded.config);
  return options;
}

}  // namespace

// Destroyed from the bottom up: gRPC and HTTP first, the models last.
struct Daemon::Impl {
  explicit Impl(DaemonOptions daemon_options);

  void check_keys();
  void encrypt();
  uint16_t listen();
  uint16_t listen_for_grpc();  // 0: on its Unix socket only
  void watch_signals();
  void preload();
  void preload(const ModelEntry& entry);
  void stop();
  bool let_connections_end();
  void remove_sockets();

  const std::filesystem::path grpc_socket;
  const DaemonOptions options;
  const CreatedModels created;
  const ModelChoice choice;
  const ModelSettingsFinder settings;
  StopRequest stop_request;
  ModelManager models;
  Services services;
  Api api;
  HttpServer http;
  rpc::GrpcServer grpc;  // its calls run on HTTP's threads
  asio::signal_set signals;
  std::optional<AddressFile> address;
};

Daemon::Impl::Impl(DaemonOptions daemon_options)
    : grpc_socket(grpc_socket_of(daemon_options)),
      options(with_passed_sockets(std::move(daemon_options))),
      created(created_models_folder(options.home)),
      choice(choose_models(options.loaded.config, options.models, built_in_model())),
      settings(model_settings_folders(options.home, options.loaded.file),
               [this](ModelSettings found, const std::string& name) {
                 const auto model = created.find(name);
                 return model ? with_created(std::move(found), *model) : found;
               }),
      models(with_created_models(choice.options, created),
             [this](const std::string& name) { return settings.find(name); }),
      services(options.loaded.config, models, settings, options.home, options.version,
               [this] { stop_request.ask(); }),
      api(services),
      http([this](Exchange& exchange) { return api.handle(exchange); },
           limits_of(options.loaded.config)),
      grpc(http.context(), services),
      signals(http.context(), SIGTERM, SIGINT, SIGHUP) {
  services.trace = choice.options.scheduler.trace;
}

void Daemon::Impl::check_keys() {
  const std::string& host = options.loaded.config.host;
  if (!is_loopback_address(host) && services.keys.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "listening on " + host +
                    " lets other machines in, and there is no API key yet: make one with \"mlx key "
                    "create\", or set host to 127.0.0.1");
  }
}

void Daemon::Impl::encrypt() {
  const ServerConfig& config = options.loaded.config;
  if (const auto identity = read_tls_identity(config.tls_cert, config.tls_key)) {
    http.encrypt_tcp(server_context(*identity));
    grpc.encrypt_tcp(*identity);
  }
}

uint16_t Daemon::Impl::listen() {
  const ServerConfig& config = options.loaded.config;
  const Adopted adopted = adopt(http, options.sockets.http);
  // The socket first: its lock is what keeps two daemons of one home apart.
  if (!adopted.unix_socket) {
    create_private_folder(config.socket.parent_path());
    http.listen_on_unix(config.socket);
  }
  if (adopted.tcp) {
    return static_cast<uint16_t>(config.port);
  }
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

uint16_t Daemon::Impl::listen_for_grpc() {
  const ServerConfig& config = options.loaded.config;
  const Adopted adopted = adopt(grpc, options.sockets.grpc);
  if (!adopted.unix_socket) {
    create_private_folder(grpc_socket.parent_path());
    grpc.listen_on_unix(grpc_socket);
  }
  if (adopted.tcp || config.grpc_port == 0) {
    return static_cast<uint16_t>(config.grpc_port);
  }
  return grpc.listen_on_tcp(config.host, static_cast<uint16_t>(std::max(config.grpc_port, 0)));
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
        preload(models.find(name));
      } catch (const std::exception& error) {
        spdlog::error("cannot load model=\"{}\": {}", name, error.what());
      }
    });
  }
}

void Daemon::Impl::preload(const ModelEntry& entry) {
  try {
    models.acquire(entry.name);
  } catch (...) {
    rethrow_about_model(std::current_exception(), entry);
  }
}

// Answers get shutdown_timeout_s to finish; the rest is cancelled, which their clients are told.
void Daemon::Impl::stop() {
  notify_supervisor("STOPPING=1");
  services.draining = true;
  http.stop_accepting();
  grpc.stop_accepting();
  models.drain(std::chrono::seconds(options.loaded.config.shutdown_timeout_s));
  const bool ended = let_connections_end() && models.memory().loading == 0;
  address.reset();
  spdlog::info("mlxrunnerd ends");
  if (!ended) {
    // A model load or a client holds on; nothing of value is lost by not waiting for it.
    remove_sockets();
    spdlog::shutdown();
    std::_Exit(0);
  }
}

// Those that this daemon made; whoever passed others keeps them.
void Daemon::Impl::remove_sockets() {
  const auto is_unix = [](const PassedSocket& socket) { return socket.is_unix; };
  std::error_code ignored;
  if (std::ranges::none_of(options.sockets.http, is_unix)) {
    std::filesystem::remove(options.loaded.config.socket, ignored);
  }
  if (std::ranges::none_of(options.sockets.grpc, is_unix)) {
    std::filesystem::remove(grpc_socket, ignored);
  }
}

bool Daemon::Impl::let_connections_end() {
  http.finish_connections();
  grpc.shut_down(kFlushTime);
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
  raise_file_limit();
  self.check_keys();
  self.encrypt();
  const uint16_t port = self.listen();
  const ServerConfig& config = self.options.loaded.config;
  const uint16_t grpc_port = self.listen_for_grpc();
  self.address.emplace(self.options.home / "daemon.json",
                       address_of(self.options, port, grpc_port, self.grpc_socket));
  self.watch_signals();
  self.http.start();
  self.grpc.start();
  const bool is_ipv6 = config.host.find(':') != std::string::npos;
  spdlog::info("mlxrunnerd ready on {}://{}:{} and unix:{}",
               config.tls_cert.empty() ? "http" : "https",
               is_ipv6 ? "[" + config.host + "]" : config.host, port, config.socket.string());
  spdlog::info("gRPC on unix:{}{}", self.grpc_socket.string(),
               grpc_port == 0 ? "" : " and port " + std::to_string(grpc_port));
  self.preload();
  notify_supervisor("READY=1");
  self.stop_request.wait();
  self.stop();
}

}  // namespace mlxr
