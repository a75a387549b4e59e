// The threads and listening sockets of HTTP, and its orderly end.
#pragma once

#include <utility>  // before Asio: see async.h

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/server/http/connection.h"
#include "daemon/server/http/listener.h"

namespace mlxr {

class HttpServer {
 public:
  static constexpr int kThreads = 2;

  // `handler` answers every request; it must not throw.
  HttpServer(Handler handler, const HttpLimits& limits);
  // Cuts what is left and joins.
  ~HttpServer();

  asio::io_context& context() { return context_; }

  // TLS on TCP from now on; before start().
  void encrypt_tcp(asio::ssl::context context) { tls_.emplace(std::move(context)); }

  // Returns the port (a free one for 0). Throws as listen_tcp.
  uint16_t listen_on_tcp(const std::string& host, uint16_t port);
  void listen_on_unix(const std::filesystem::path& path);
  // Sockets that somebody else opened: they listen already, and stay when this ends.
  void adopt_tcp(int descriptor, bool is_ipv6);
  void adopt_unix(int descriptor);
  // Starts to accept.
  void start();

  void stop_accepting();
  // Idle connections end now, the others after the answer they are at.
  void finish_connections();
  // Cuts what is left.
  void close_connections();
  // Waits for every connection to end; false when `timeout` passed first.
  bool wait_until_idle(std::chrono::milliseconds timeout);

 private:
  using Handles = std::list<std::weak_ptr<ConnectionHandle>>;

  template <typename Acceptor>
  Task<void> accept_loop(Acceptor& acceptor, bool is_unix_socket);
  void serve(asio::generic::stream_protocol::socket socket, bool is_unix_socket);
  std::vector<std::shared_ptr<ConnectionHandle>> connections();

  Handler handler_;
  const HttpLimits limits_;
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::strand<asio::io_context::executor_type> accepting_;  // the acceptors are used on it only
  std::optional<asio::ssl::context> tls_;
  std::list<asio::ip::tcp::acceptor> tcp_;
  std::optional<UnixListener> unix_;
  std::list<asio::local::stream_protocol::acceptor> adopted_unix_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Handles connections_;
  bool stopping_ = false;
};

}  // namespace mlxr
