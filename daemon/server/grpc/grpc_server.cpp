#include "daemon/server/grpc/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <limits>
#include <list>
#include <optional>

#include "daemon/server/grpc/grpc_services.h"

namespace mlxr::rpc {
namespace {

using boost::system::error_code;
using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

constexpr int kMaxStreams = 256;  // calls at once on one connection
// A client that vanished without a word is noticed within these two together.
constexpr int kPingAfterMs = 30'000;
constexpr int kPingTimeoutMs = 20'000;
// Clients may ping this often; long prefills are silent.
constexpr int kClientPingsMs = 5'000;
// Reflection answers on threads of its own, one a stream.
constexpr int kMaxThreads = 32;

int message_limit(int64_t bytes) {
  return static_cast<int>(std::min<int64_t>(bytes, std::numeric_limits<int>::max()));
}

// gRPC reads a request before anybody can ask whose it is: all of them together get this much.
size_t memory_limit(int64_t message_bytes) {
  return static_cast<size_t>(std::max<int64_t>(4 * message_bytes, 64 << 20));
}

void set_limits(grpc::ServerBuilder& builder, const ServerConfig& config) {
  builder.SetMaxReceiveMessageSize(message_limit(config.max_body_bytes));
  grpc::ResourceQuota quota("mlxrunnerd");
  quota.Resize(memory_limit(config.max_body_bytes));
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingAfterMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingsMs);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
}

// gRPC makes connections of file descriptors; listening is ours, with the locks, modes and error
// messages of the HTTP sockets.
template <typename Socket>
void hand_over(Socket socket, Acceptor& to) {
  error_code problem;
  socket.native_non_blocking(true, problem);
  Acceptor::NewConnectionParameters connection;
  connection.fd = socket.release(problem);
  if (!problem) {
    to.HandleNewConnection(&connection);
  }
}

std::unique_ptr<Acceptor> acceptor_of(grpc::ServerBuilder& builder,
                                      std::shared_ptr<grpc::ServerCredentials> credentials) {
  return builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
}

// gRPC takes TLS 1.2 and 1.3, as HTTP does.
std::shared_ptr<grpc::ServerCredentials> credentials_of(const std::optional<TlsIdentity>& tls) {
  if (!tls) {
    return grpc::InsecureServerCredentials();
  }
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({tls->key, tls->certificate});
  return grpc::SslServerCredentials(options);
}

void set_no_delay(asio::ip::tcp::socket& socket) {
  error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
}
void set_no_delay(asio::local::stream_protocol::socket&) {}

// `acceptor` and `to` outlive this: the server closes the one and waits.
template <typename ListeningSocket>
Task<void> accept_loop(ListeningSocket& acceptor, Acceptor& to) {
  while (acceptor.is_open()) {
    error_code problem;
    auto socket =
        co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, problem));
    if (!problem) {
      set_no_delay(socket);
      hand_over(std::move(socket), to);
    } else if (acceptor.is_open() && problem != asio::error::operation_aborted) {
      spdlog::warn("cannot accept a gRPC connection: {}", problem.message());
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(200));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, problem));
    }
  }
}

}  // namespace

std::filesystem::path socket_beside(const std::filesystem::path& http_socket) {
  return http_socket.parent_path() /
         (http_socket.stem().string() + "-grpc" + http_socket.extension().string());
}

// Destroyed from the bottom up.
struct GrpcServer::Impl {
  Impl(asio::io_context& io_context, Services& daemon_services)
      : context(io_context),
        services(daemon_services),
        accepting(asio::make_strand(io_context)),
        calls(daemon_services, io_context.get_executor()),
        answered(make_services(calls)) {}

  void set_serving(bool serving);
  void close_listeners();

  asio::io_context& context;
  Services& services;
  asio::strand<asio::io_context::executor_type> accepting;  // the acceptors are used on it only
  std::optional<TlsIdentity> tls;                           // of TCP
  std::list<asio::ip::tcp::acceptor> tcp;
  std::optional<UnixListener> unix_socket;
  std::list<asio::local::stream_protocol::acceptor> adopted_unix;
  Calls calls;
  std::vector<std::unique_ptr<grpc::Service>> answered;
  std::unique_ptr<Acceptor> tcp_connections, unix_connections;
  std::unique_ptr<grpc::Server> server;
  std::vector<std::future<void>> loops;  // of accepting
};

void GrpcServer::Impl::set_serving(bool serving) {
  grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService();
  health->SetServingStatus(serving);
  for (const std::string& name : service_names()) {
    health->SetServingStatus(name, serving);
  }
}

// On the strand of the acceptors.
void GrpcServer::Impl::close_listeners() {
  error_code ignored;
  for (auto& acceptor : tcp) {
    acceptor.close(ignored);
  }
  if (unix_socket) {
    unix_socket->acceptor().close(ignored);
  }
  for (auto& acceptor : adopted_unix) {
    acceptor.close(ignored);
  }
}

GrpcServer::GrpcServer(asio::io_context& context, Services& services)
    : impl_(std::make_unique<Impl>(context, services)) {}

GrpcServer::~GrpcServer() {
  if (impl_->server) {
    stop_accepting();
    shut_down(std::chrono::milliseconds(0));
  }
}

void GrpcServer::encrypt_tcp(TlsIdentity identity) { impl_->tls = std::move(identity); }

uint16_t GrpcServer::listen_on_tcp(const std::string& host, uint16_t port) {
  return impl_->tcp.emplace_back(listen_tcp(impl_->context, host, port, "--grpc-port"))
      .local_endpoint()
      .port();
}

void GrpcServer::listen_on_unix(const std::filesystem::path& path) {
  impl_->unix_socket.emplace(impl_->context, path);
}

void GrpcServer::adopt_tcp(int descriptor, bool is_ipv6) {
  impl_->tcp.emplace_back(impl_->context, is_ipv6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(),
                          descriptor);
}

void GrpcServer::adopt_unix(int descriptor) {
  impl_->adopted_unix.emplace_back(impl_->context, asio::local::stream_protocol(), descriptor);
}

void GrpcServer::start() {
  Impl& self = *impl_;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  set_limits(builder, self.services.config);
  for (const auto& service : self.answered) {
    builder.RegisterService(service.get());
  }
  self.tcp_connections = acceptor_of(builder, credentials_of(self.tls));
  self.unix_connections = acceptor_of(builder, grpc::InsecureServerCredentials());
  self.server = builder.BuildAndStart();
  if (!self.server) {
    throw Error(ErrorCode::kInternal, "gRPC cannot be started; its messages above say why");
  }
  self.set_serving(true);
  const auto accept_on = [&self](auto& acceptor, Acceptor& to) {
    self.loops.push_back(
        asio::co_spawn(self.accepting, accept_loop(acceptor, to), asio::use_future));
  };
  for (auto& acceptor : self.tcp) {
    accept_on(acceptor, *self.tcp_connections);
  }
  if (self.unix_socket) {
    accept_on(self.unix_socket->acceptor(), *self.unix_connections);
  }
  for (auto& acceptor : self.adopted_unix) {
    accept_on(acceptor, *self.unix_connections);
  }
}

void GrpcServer::stop_accepting() {
  impl_->set_serving(false);
  asio::post(impl_->accepting, [impl = impl_.get()] { impl->close_listeners(); });
  for (std::future<void>& loop : impl_->loops) {
    loop.wait();
  }
}

void GrpcServer::shut_down(std::chrono::milliseconds timeout) {
  impl_->server->Shutdown(std::chrono::system_clock::now() + timeout);
}

}  // namespace mlxr::rpc
