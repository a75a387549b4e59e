#include "daemon/server/http/http_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace mlxr {
namespace {

using boost::system::error_code;
using GenericSocket = asio::generic::stream_protocol::socket;

// Pieces of a stream go out as they come: waiting to fill packets would delay them. And a peer that
// vanished without a word is found out, also while nothing is written to it.
void set_tcp_options(GenericSocket& socket) {
  error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
#ifdef TCP_KEEPIDLE
  const auto set = [&socket](int option, int seconds) {
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &seconds, sizeof seconds);
  };
  set(TCP_KEEPIDLE, 30);
  set(TCP_KEEPINTVL, 10);
  set(TCP_KEEPCNT, 3);
#endif
}

}  // namespace

HttpServer::HttpServer(Handler handler, const HttpLimits& limits)
    : handler_(std::move(handler)),
      limits_(limits),
      work_(asio::make_work_guard(context_)),
      accepting_(asio::make_strand(context_)) {}

HttpServer::~HttpServer() {
  stop_accepting();
  close_connections();
  work_.reset();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

uint16_t HttpServer::listen_on_tcp(const std::string& host, uint16_t port) {
  return tcp_.emplace_back(listen_tcp(context_, host, port)).local_endpoint().port();
}

void HttpServer::listen_on_unix(const std::filesystem::path& path) {
  unix_.emplace(context_, path);
}

void HttpServer::adopt_tcp(int descriptor, bool is_ipv6) {
  tcp_.emplace_back(context_, is_ipv6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), descriptor);
}

void HttpServer::adopt_unix(int descriptor) {
  adopted_unix_.emplace_back(context_, asio::local::stream_protocol(), descriptor);
}

void HttpServer::start() {
  for (auto& acceptor : tcp_) {
    asio::co_spawn(accepting_, accept_loop(acceptor, false), asio::detached);
  }
  if (unix_) {
    asio::co_spawn(accepting_, accept_loop(unix_->acceptor(), true), asio::detached);
  }
  for (auto& acceptor : adopted_unix_) {
    asio::co_spawn(accepting_, accept_loop(acceptor, true), asio::detached);
  }
  for (int i = 0; i < kThreads; ++i) {
    threads_.emplace_back([this] { context_.run(); });
  }
}

template <typename Acceptor>
Task<void> HttpServer::accept_loop(Acceptor& acceptor, bool is_unix_socket) {
  while (acceptor.is_open()) {
    error_code problem;
    auto socket = co_await acceptor.async_accept(
        asio::make_strand(context_), asio::redirect_error(asio::use_awaitable, problem));
    if (!problem) {
      serve(GenericSocket(std::move(socket)), is_unix_socket);
    } else if (acceptor.is_open() && problem != asio::error::operation_aborted) {
      // Out of file descriptors, mostly: wait until some are given back.
      spdlog::warn("cannot accept a connection: {}", problem.message());
      asio::steady_timer pause(context_, std::chrono::milliseconds(200));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, problem));
    }
  }
}

void HttpServer::serve(GenericSocket socket, bool is_unix_socket) {
  const std::lock_guard lock(mutex_);
  if (stopping_) {
    return;
  }
  if (!is_unix_socket) {
    set_tcp_options(socket);
  }
  const Handles::iterator place = connections_.emplace(connections_.end());
  auto ended = [this, place] {
    const std::lock_guard erasing(mutex_);
    connections_.erase(place);
    changed_.notify_all();
  };
  *place = tls_ && !is_unix_socket
               ? start_tls_connection(std::move(socket), *tls_, limits_, handler_, std::move(ended))
               : start_connection(std::move(socket), is_unix_socket, limits_, handler_,
                                  std::move(ended));
}

std::vector<std::shared_ptr<ConnectionHandle>> HttpServer::connections() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<ConnectionHandle>> alive;
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock()) {
      alive.push_back(std::move(connection));
    }
  }
  return alive;
}

void HttpServer::stop_accepting() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  asio::post(accepting_, [this] {
    error_code ignored;
    for (auto& acceptor : tcp_) {
      acceptor.close(ignored);
    }
    if (unix_) {
      unix_->acceptor().close(ignored);
    }
    for (auto& acceptor : adopted_unix_) {
      acceptor.close(ignored);
    }
  });
}

void HttpServer::finish_connections() {
  for (const auto& connection : connections()) {
    connection->finish();
  }
}

void HttpServer::close_connections() {
  for (const auto& connection : connections()) {
    connection->close();
  }
}

bool HttpServer::wait_until_idle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return connections_.empty(); });
}

}  // namespace mlxr
