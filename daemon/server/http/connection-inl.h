// The one text of a connection, for a transport (transport.h): connection.cpp and
// tls_connection.cpp make one each.
#pragma once

#include <utility>  // before Asio: see async.h

#include <array>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <limits>
#include <optional>

#include "daemon/server/http/connection.h"
#include "daemon/server/http/gzip.h"
#include "daemon/server/http/peer.h"
#include "daemon/server/http/request_head.h"
#include "daemon/server/http/tls.h"
#include "daemon/server/http/transport.h"

namespace mlxr {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using PieceParser = http::request_parser<http::buffer_body>;

inline constexpr size_t kPieceBytes = 1 << 20;
// Smaller answers gain nothing by compression, larger ones would hold up the thread.
inline constexpr size_t kLeastToCompress = 16 << 10, kMostToCompress = 4 << 20;
// What a TLS client gets to say goodbye after the connection's last answer.
inline constexpr std::chrono::seconds kGoodbyeTime{1};

std::string next_request_id();

inline auto into(error_code& problem) { return asio::redirect_error(asio::use_awaitable, problem); }

template <typename Transport>
class Connection : public ConnectionHandle,
                   public std::enable_shared_from_this<Connection<Transport>> {
 public:
  // `under`: what the transport is made of.
  template <typename... Under>
  Connection(bool is_unix_socket, const HttpLimits& limits, const Handler& handler,
             Under&&... under)
      : transport_(std::forward<Under>(under)...),
        is_unix_socket_(is_unix_socket),
        peer_(peer_address(transport_.socket().socket().native_handle())),
        limits_(limits),
        handler_(handler),
        watch_ended_(executor()) {}

  Task<void> run();
  void finish() override;
  void close() override;
  asio::any_io_executor executor() { return transport_.socket().get_executor(); }

 private:
  class HttpExchange;

  Task<bool> shake_hands();
  Task<bool> read_request(RequestParser& parser, Request& request);
  Task<void> refuse(ApiError error);
  Task<bool> serve(RequestParser& parser, Request request);
  Task<void> linger();
  Task<void> say_goodbye();

  void watch();
  bool has_input();
  void on_input(const error_code& problem);
  Task<void> cancel_watch();
  Task<bool> watched_input();
  void client_gone();

  auto& stream() { return transport_.stream(); }
  void expire_after(std::chrono::seconds time) { transport_.socket().expires_after(time); }

  Transport transport_;
  beast::flat_buffer buffer_;
  const bool is_unix_socket_;
  const std::string peer_;
  const HttpLimits limits_;
  const Handler& handler_;
  unsigned version_ = 11;
  bool keep_alive_ = true;
  bool idle_ = true;
  bool finishing_ = false;
  bool disconnected_ = false;
  bool watching_ = false;
  bool stop_watching_ = false;
  bool input_ended_ = false;
  asio::steady_timer watch_ended_;
  std::function<void()> on_disconnect_;
};

template <typename Transport>
class Connection<Transport>::HttpExchange : public Exchange {
 public:
  // Without a parser there is no body.
  HttpExchange(Connection& connection, RequestParser* parser, Request request)
      : connection_(connection), parser_(parser), request_(std::move(request)) {
    record.id = next_request_id();
  }

  const Request& request() const override { return request_; }
  Request& mutable_request() override { return request_; }
  asio::any_io_executor executor() override { return connection_.executor(); }
  Task<bool> read_body() override;
  Task<bool> read_piece(std::string& piece) override;
  bool has_unread_body() const {
    return pieces_ ? !pieces_->is_done() : parser_ != nullptr && !parser_->is_done();
  }
  bool started() const override { return started_; }
  bool disconnected() const override { return connection_.disconnected_; }
  void on_disconnect(std::function<void()> callback) override {
    connection_.on_disconnect_ = std::move(callback);
  }

  Task<void> respond(Response response) override {
    return respond_on(connection_.stream(), std::move(response));
  }
  // On another stream than the connection's own.
  template <typename Stream>
  Task<void> respond_on(Stream& stream, Response response);
  Task<bool> begin_stream(std::string content_type) override;
  Task<bool> write(std::string bytes) override;
  Task<bool> end();

 private:
  template <typename Body>
  void fill_head(http::response<Body>& message, const std::string& content_type);
  bool check(const error_code& problem);
  Task<void> say_continue(error_code& problem);
  void compress(Response& response) const;

  Connection& connection_;
  RequestParser* const parser_;
  std::optional<PieceParser> pieces_;  // took over from parser_
  Request request_;
  bool started_ = false;
  bool streaming_ = false;
  bool chunked_ = false;
  bool failed_ = false;
};

template <typename Transport>
template <typename Body>
void Connection<Transport>::HttpExchange::fill_head(http::response<Body>& message,
                                                    const std::string& content_type) {
  message.version(connection_.version_);
  message.set(http::field::server, "mlxrunnerd");
  message.set("X-Request-Id", record.id);
  message.set(http::field::content_type, content_type);
  message.set(http::field::cache_control, "no-store");
  for (const auto& [name, value] : extra_headers) {
    message.set(name, value);
  }
  if (connection_.finishing_ || has_unread_body()) {
    connection_.keep_alive_ = false;
  }
}

template <typename Transport>
bool Connection<Transport>::HttpExchange::check(const error_code& problem) {
  if (problem) {
    failed_ = true;
    connection_.keep_alive_ = false;
    connection_.client_gone();
  }
  return !failed_;
}

template <typename Transport>
template <typename Stream>
Task<void> Connection<Transport>::HttpExchange::respond_on(Stream& stream, Response response) {
  started_ = true;
  record.status = response.status;
  const bool head_only = request_.method == "HEAD";
  compress(response);
  http::response<http::string_body> message;
  message.result(static_cast<unsigned>(response.status));
  fill_head(message, response.content_type);
  for (const auto& [name, value] : response.headers) {
    message.set(name, value);
  }
  message.content_length(response.body.size());
  message.keep_alive(connection_.keep_alive_);
  message.body() = head_only ? std::string() : std::move(response.body);
  error_code problem;
  connection_.expire_after(connection_.limits_.write_timeout);
  co_await http::async_write(stream, message, into(problem));
  check(problem);
}

template <typename Transport>
Task<bool> Connection<Transport>::HttpExchange::begin_stream(std::string content_type) {
  started_ = true;
  streaming_ = true;
  record.status = 200;
  http::response<http::empty_body> message;
  message.result(http::status::ok);
  fill_head(message, content_type);
  message.set("X-Accel-Buffering", "no");
  chunked_ = connection_.version_ >= 11;
  if (!chunked_) {
    connection_.keep_alive_ = false;
  }
  message.keep_alive(connection_.keep_alive_);
  message.chunked(chunked_);
  http::response_serializer<http::empty_body> serializer{message};
  error_code problem;
  connection_.expire_after(connection_.limits_.write_timeout);
  co_await http::async_write_header(connection_.stream(), serializer, into(problem));
  co_return check(problem);
}

template <typename Transport>
Task<bool> Connection<Transport>::HttpExchange::write(std::string bytes) {
  if (failed_ || disconnected()) {
    failed_ = true;
    co_return false;
  }
  error_code problem;
  connection_.expire_after(connection_.limits_.write_timeout);
  if (chunked_) {
    co_await asio::async_write(connection_.stream(), http::make_chunk(asio::buffer(bytes)),
                               into(problem));
  } else {
    co_await asio::async_write(connection_.stream(), asio::buffer(bytes), into(problem));
  }
  co_return check(problem);
}

template <typename Transport>
Task<bool> Connection<Transport>::HttpExchange::end() {
  if (!started_) {
    co_await respond(to_response(to_api_error(
        ErrorCode::kInternal, "the request was not answered: a bug of mlxrunnerd", false)));
  }
  if (streaming_ && chunked_ && !failed_) {
    error_code problem;
    connection_.expire_after(connection_.limits_.write_timeout);
    co_await asio::async_write(connection_.stream(), http::make_chunk_last(), into(problem));
    check(problem);
  }
  co_return !failed_;
}

// Clients that ask first wait for this before they send a body.
template <typename Transport>
Task<void> Connection<Transport>::HttpExchange::say_continue(error_code& problem) {
  connection_.expire_after(connection_.limits_.body_timeout);
  if (beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(connection_.stream(), asio::buffer(kContinue), into(problem));
  }
}

template <typename Transport>
void Connection<Transport>::HttpExchange::compress(Response& response) const {
  const size_t size = response.body.size();
  if (size < kLeastToCompress || size > kMostToCompress) {
    return;
  }
  response.headers.emplace_back("Vary", "Accept-Encoding");
  if (accepts_gzip(request_.header("accept-encoding"))) {
    response.headers.emplace_back("Content-Encoding", "gzip");
    response.body = gzip(response.body);
  }
}

template <typename Transport>
Task<bool> Connection<Transport>::HttpExchange::read_body() {
  if (!has_unread_body()) {
    co_return true;
  }
  const int64_t limit = connection_.limits_.max_body_bytes;
  limit_body(*parser_, limit);
  error_code problem;
  co_await say_continue(problem);
  if (!problem) {
    co_await http::async_read(connection_.stream(), connection_.buffer_, *parser_, into(problem));
  }
  if (problem) {
    if (const auto error = protocol_error(problem, limit)) {
      throw RequestError(*error);
    }
    co_return check(problem);
  }
  request_.body = std::move(parser_->get().body());
  connection_.watch();
  decode_body(request_, limit);
  co_return true;
}

template <typename Transport>
Task<bool> Connection<Transport>::HttpExchange::read_piece(std::string& piece) {
  error_code problem;
  piece.clear();
  if (!pieces_) {
    if (!has_unread_body()) {
      co_return true;
    }
    co_await say_continue(problem);
    pieces_.emplace(std::move(*parser_));
    pieces_->body_limit(std::numeric_limits<uint64_t>::max());
  }
  if (problem || pieces_->is_done()) {
    co_return check(problem);
  }
  piece.resize(kPieceBytes);
  auto& body = pieces_->get().body();
  body.data = piece.data();
  body.size = piece.size();
  connection_.expire_after(connection_.limits_.body_timeout);
  co_await http::async_read(connection_.stream(), connection_.buffer_, *pieces_, into(problem));
  piece.resize(piece.size() - body.size);
  if (problem == http::error::need_buffer) {
    problem = {};
  }
  if (pieces_->is_done() && !problem) {
    connection_.watch();
  }
  co_return check(problem);
}

template <typename Transport>
Task<void> Connection<Transport>::run() {
  if (!co_await shake_hands()) {
    transport_.socket().close();
    co_return;
  }
  // What has arrived before the end is answered, too: its client was not told to expect a close.
  while (keep_alive_ && (!finishing_ || has_input())) {
    RequestParser parser;
    Request request;
    if (!co_await read_request(parser, request)) {
      break;
    }
    // Also while a body arrives: a shutdown lets it come in and be answered.
    idle_ = false;
    const bool healthy = co_await serve(parser, std::move(request));
    idle_ = true;
    if (!healthy) {
      break;
    }
  }
  co_await say_goodbye();
  error_code ignored;
  transport_.socket().socket().shutdown(asio::socket_base::shutdown_both, ignored);
  transport_.socket().close();
}

template <typename Transport>
Task<bool> Connection<Transport>::serve(RequestParser& parser, Request request) {
  HttpExchange exchange(*this, &parser, std::move(request));
  if (!exchange.has_unread_body()) {
    watch();
  }
  co_await handler_(exchange);
  on_disconnect_ = nullptr;
  const bool healthy = co_await exchange.end();
  const bool unread = exchange.has_unread_body();
  const bool goes_on = healthy && !unread && !disconnected_ && keep_alive_ && !finishing_;
  stop_watching_ = true;
  // What TLS reads ahead is the next request: see watched_input().
  if (!Transport::kEncrypted || !goes_on) {
    co_await cancel_watch();
  }
  if (healthy && unread) {
    co_await linger();
    co_return false;
  }
  co_return healthy && !disconnected_;
}

// A client that is slow at it has the time of slow headers.
template <typename Transport>
Task<bool> Connection<Transport>::shake_hands() {
  if constexpr (Transport::kEncrypted) {
    error_code problem;
    expire_after(limits_.idle_timeout);
    co_await stream().async_handshake(asio::ssl::stream_base::server, into(problem));
    if (is_plain_http(problem)) {
      HttpExchange exchange(*this, nullptr, Request());
      keep_alive_ = false;
      co_await exchange.respond_on(transport_.socket(), to_response(not_encrypted()));
      co_await linger();
    }
    co_return !problem;
  }
  co_return true;
}

template <typename Transport>
Task<bool> Connection<Transport>::read_request(RequestParser& parser, Request& request) {
  if (!co_await watched_input()) {
    co_return false;
  }
  limit_head(parser);
  error_code problem;
  expire_after(limits_.idle_timeout);
  co_await http::async_read_header(stream(), buffer_, parser, into(problem));
  if (problem) {
    const std::optional<ApiError> error = protocol_error(problem, limits_.max_body_bytes);
    if (error) {
      co_await refuse(*error);
    }
    co_return false;
  }
  version_ = parser.get().version();
  keep_alive_ = parser.get().keep_alive();
  request.is_unix_socket = is_unix_socket_;
  request.peer = peer_;
  if (!read_head(parser, request)) {
    co_await refuse(malformed_path());
    co_return false;
  }
  co_return true;
}

template <typename Transport>
Task<void> Connection<Transport>::refuse(ApiError error) {
  keep_alive_ = false;
  HttpExchange exchange(*this, nullptr, Request{});
  exchange.record.route = std::string("-");
  co_await exchange.respond(to_response(error));
  log_request(exchange.record);
  co_await linger();
}

// Reads on for a moment: closing with unread input makes the kernel send a reset, and the client
// would lose the answer that explains what was wrong.
template <typename Transport>
Task<void> Connection<Transport>::linger() {
  co_await say_goodbye();
  error_code problem;
  auto& socket = transport_.socket();
  socket.socket().shutdown(asio::socket_base::shutdown_send, problem);
  std::array<char, 16384> scrap{};
  expire_after(std::chrono::seconds(2));
  for (int reads = 0; reads < 4096 && !problem; ++reads) {
    co_await socket.async_read_some(asio::buffer(scrap), into(problem));
  }
}

// So that a TLS client can tell an end from a broken connection.
template <typename Transport>
Task<void> Connection<Transport>::say_goodbye() {
  co_await cancel_watch();
  if constexpr (Transport::kEncrypted) {
    error_code ignored;
    if (transport_.socket().socket().is_open()) {
      expire_after(kGoodbyeTime);
      co_await stream().async_shutdown(into(ignored));
    }
  }
}

template <typename Transport>
void Connection<Transport>::watch() {
  if (buffer_.size() >= Transport::kMaxReadAhead) {
    return;
  }
  watching_ = true;
  stop_watching_ = false;
  transport_.read_ahead(buffer_, [self = this->shared_from_this()](const error_code& problem) {
    self->on_input(problem);
  });
}

// Whether a further request, or its beginning, is here already.
template <typename Transport>
bool Connection<Transport>::has_input() {
  if (buffer_.size() > 0 || Transport::kEncrypted) {
    return buffer_.size() > 0;
  }
  error_code closed;
  return transport_.socket().socket().available(closed) > 0;
}

// Input while a request is answered is the next request (kept for later) or the end of the stream.
template <typename Transport>
void Connection<Transport>::on_input(const error_code& problem) {
  watching_ = false;
  const bool cancelled = problem == asio::error::operation_aborted;
  input_ended_ = problem && !cancelled;
  if (stop_watching_ || cancelled) {
    watch_ended_.cancel();
  } else if (problem) {
    client_gone();
  } else {
    watch();
  }
}

template <typename Transport>
Task<void> Connection<Transport>::cancel_watch() {
  stop_watching_ = true;
  if (watching_) {
    error_code ignored;
    transport_.socket().socket().cancel(ignored);
  }
  while (watching_) {
    error_code ignored;
    watch_ended_.expires_after(std::chrono::seconds(1));
    co_await watch_ended_.async_wait(into(ignored));
  }
}

// Between two requests over TLS: the read that watched the client brings the beginning of the next.
// False: it came to nothing, or not in time.
template <typename Transport>
Task<bool> Connection<Transport>::watched_input() {
  if (watching_) {
    error_code ignored;
    watch_ended_.expires_after(limits_.idle_timeout);
    co_await watch_ended_.async_wait(into(ignored));
  }
  co_return !watching_ && !input_ended_;
}

template <typename Transport>
void Connection<Transport>::client_gone() {
  if (!disconnected_) {
    disconnected_ = true;
    keep_alive_ = false;
    if (on_disconnect_) {
      on_disconnect_();
    }
  }
}

template <typename Transport>
void Connection<Transport>::finish() {
  asio::post(executor(), [self = this->shared_from_this()] {
    self->finishing_ = true;
    if (self->idle_ && !self->has_input()) {
      self->transport_.socket().close();
    }
  });
}

template <typename Transport>
void Connection<Transport>::close() {
  asio::post(executor(), [self = this->shared_from_this()] {
    self->finishing_ = true;
    self->client_gone();
    self->transport_.socket().close();
  });
}

template <typename Transport>
Task<void> run_connection(std::shared_ptr<Connection<Transport>> connection,
                          std::function<void()> ended) {
  try {
    co_await connection->run();
  } catch (const std::exception&) {
    connection->close();
  }
  ended();
}

template <typename Transport>
std::shared_ptr<ConnectionHandle> start_on_strand(std::shared_ptr<Connection<Transport>> connection,
                                                  std::function<void()> ended) {
  asio::co_spawn(connection->executor(), run_connection(connection, std::move(ended)),
                 asio::detached);
  return connection;
}

}  // namespace mlxr
