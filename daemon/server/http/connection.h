// One client connection, TCP or Unix socket alike: reads requests, hands them to the handler,
// writes what it answers, and watches for the client going away meanwhile. Beast stays in these
// files (connection-inl.h, transport.h), request_head.h and gzip.cpp.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "daemon/server/http/router.h"

namespace mlxr {

struct HttpLimits {
  int64_t max_body_bytes = 32 << 20;
  std::chrono::seconds idle_timeout{75};   // between requests; for headers; for a TLS handshake
  std::chrono::seconds body_timeout{60};   // for a request's body
  std::chrono::seconds write_timeout{30};  // for the client to take what was written
};

// What the server may do to a connection from any thread.
class ConnectionHandle {
 public:
  virtual ~ConnectionHandle() = default;
  // Ends keep-alive: closes now when no request is being answered, else after the answer.
  virtual void finish() = 0;
  // Cuts the connection.
  virtual void close() = 0;
};

// Serves `socket`, whose executor must be a strand, until it ends; then calls `ended`. The handler
// must outlive the connection.
std::shared_ptr<ConnectionHandle> start_connection(asio::generic::stream_protocol::socket socket,
                                                   bool is_unix_socket, const HttpLimits& limits,
                                                   const Handler& handler,
                                                   std::function<void()> ended);

// The same over TLS, on a TCP socket. `context` must outlive the connection.
std::shared_ptr<ConnectionHandle> start_tls_connection(
    asio::generic::stream_protocol::socket socket, asio::ssl::context& context,
    const HttpLimits& limits, const Handler& handler, std::function<void()> ended);

}  // namespace mlxr
