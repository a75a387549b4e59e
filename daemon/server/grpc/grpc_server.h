// The gRPC server: its sockets, its services beside grpc.health.v1 and reflection, and its orderly
// end.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "daemon/server/http/http_server.h"
#include "daemon/server/http/tls.h"
#include "daemon/server/services.h"

namespace mlxr::rpc {

// The socket beside the one of HTTP: "mlxr.sock" has "mlxr-grpc.sock".
std::filesystem::path socket_beside(const std::filesystem::path& http_socket);

class GrpcServer {
 public:
  // Calls are answered on `context`, whose threads must run until this object is gone.
  GrpcServer(asio::io_context& context, Services& services);
  // Cuts what is left.
  ~GrpcServer();

  // As HttpServer. Before start().
  void encrypt_tcp(TlsIdentity identity);
  uint16_t listen_on_tcp(const std::string& host, uint16_t port);
  void listen_on_unix(const std::filesystem::path& path);
  void adopt_tcp(int descriptor, bool is_ipv6);
  void adopt_unix(int descriptor);
  // The context's threads run by now.
  void start();

  // Takes no new connections, and tells those who watch its health.
  void stop_accepting();
  // Takes no new calls, lets those under way end until `timeout` and cancels the rest.
  void shut_down(std::chrono::milliseconds timeout);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr::rpc
