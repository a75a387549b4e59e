#include "daemon/server/http/connection.h"

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <random>

#include "daemon/server/http/api_error.h"

namespace mlxr {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Stream = beast::basic_stream<asio::generic::stream_protocol>;
using Parser = http::request_parser<http::string_body>;

constexpr uint32_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxPipelinedBytes = 1 << 20;

std::string next_request_id() {
  static const uint32_t process = std::random_device{}();
  static std::atomic<uint32_t> count{0};
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "req_%08x%06x", process, ++count);
  return text.data();
}

auto into(error_code& problem) { return asio::redirect_error(asio::use_awaitable, problem); }

class Connection : public ConnectionHandle, public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::generic::stream_protocol::socket socket, bool is_unix_socket,
             const HttpLimits& limits, const Handler& handler)
      : stream_(std::move(socket)),
        is_unix_socket_(is_unix_socket),
        limits_(limits),
        handler_(handler),
        watch_ended_(stream_.get_executor()) {}

  Task<void> run();
  void finish() override;
  void close() override;
  asio::any_io_executor executor() { return stream_.get_executor(); }

 private:
  class HttpExchange;

  Task<bool> read_request(Request& request);
  Task<bool> read_body(Parser& parser);
  Task<void> refuse(ApiError error);
  Task<bool> serve(Request request);
  Task<void> linger();

  void watch();
  void on_readable();
  Task<void> stop_watching();
  void client_gone();

  Stream stream_;
  beast::flat_buffer buffer_;
  const bool is_unix_socket_;
  const HttpLimits limits_;
  const Handler& handler_;
  unsigned version_ = 11;
  bool keep_alive_ = true;
  bool idle_ = true;
  bool finishing_ = false;
  bool disconnected_ = false;
  bool watching_ = false;
  bool stop_watching_ = false;
  asio::steady_timer watch_ended_;
  std::function<void()> on_disconnect_;
};

class Connection::HttpExchange : public Exchange {
 public:
  HttpExchange(Connection& connection, Request request)
      : connection_(connection), request_(std::move(request)) {
    record.id = next_request_id();
  }

  const Request& request() const override { return request_; }
  Request& mutable_request() override { return request_; }
  asio::any_io_executor executor() override { return connection_.stream_.get_executor(); }
  bool started() const override { return started_; }
  bool disconnected() const override { return connection_.disconnected_; }
  void on_disconnect(std::function<void()> callback) override {
    connection_.on_disconnect_ = std::move(callback);
  }

  Task<void> respond(Response response) override;
  Task<bool> begin_stream(std::string content_type) override;
  Task<bool> write(std::string bytes) override;
  Task<bool> end();

 private:
  template <typename Body>
  void fill_head(http::response<Body>& message, const std::string& content_type);
  bool check(const error_code& problem);

  Connection& connection_;
  Request request_;
  bool started_ = false;
  bool streaming_ = false;
  bool chunked_ = false;
  bool failed_ = false;
};

template <typename Body>
void Connection::HttpExchange::fill_head(http::response<Body>& message,
                                         const std::string& content_type) {
  message.version(connection_.version_);
  message.set(http::field::server, "mlxrunnerd");
  message.set("X-Request-Id", record.id);
  message.set(http::field::content_type, content_type);
  message.set(http::field::cache_control, "no-store");
  if (connection_.finishing_) {
    connection_.keep_alive_ = false;
  }
}

bool Connection::HttpExchange::check(const error_code& problem) {
  if (problem) {
    failed_ = true;
    connection_.keep_alive_ = false;
    connection_.client_gone();
  }
  return !failed_;
}

Task<void> Connection::HttpExchange::respond(Response response) {
  started_ = true;
  record.status = response.status;
  const bool head_only = request_.method == "HEAD";
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
  connection_.stream_.expires_after(connection_.limits_.write_timeout);
  co_await http::async_write(connection_.stream_, message, into(problem));
  check(problem);
}

Task<bool> Connection::HttpExchange::begin_stream(std::string content_type) {
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
  connection_.stream_.expires_after(connection_.limits_.write_timeout);
  co_await http::async_write_header(connection_.stream_, serializer, into(problem));
  co_return check(problem);
}

Task<bool> Connection::HttpExchange::write(std::string bytes) {
  if (failed_ || disconnected()) {
    failed_ = true;
    co_return false;
  }
  error_code problem;
  connection_.stream_.expires_after(connection_.limits_.write_timeout);
  if (chunked_) {
    co_await asio::async_write(connection_.stream_, http::make_chunk(asio::buffer(bytes)),
                               into(problem));
  } else {
    co_await asio::async_write(connection_.stream_, asio::buffer(bytes), into(problem));
  }
  co_return check(problem);
}

Task<bool> Connection::HttpExchange::end() {
  if (!started_) {
    co_await respond(to_response(to_api_error(
        ErrorCode::kInternal, "the request was not answered: a bug of mlxrunnerd", false)));
  }
  if (streaming_ && chunked_ && !failed_) {
    error_code problem;
    connection_.stream_.expires_after(connection_.limits_.write_timeout);
    co_await asio::async_write(connection_.stream_, http::make_chunk_last(), into(problem));
    check(problem);
  }
  co_return !failed_;
}

Task<void> Connection::run() {
  while (keep_alive_ && !finishing_) {
    Request request;
    if (!co_await read_request(request)) {
      break;
    }
    idle_ = false;
    const bool healthy = co_await serve(std::move(request));
    idle_ = true;
    if (!healthy) {
      break;
    }
  }
  error_code ignored;
  stream_.socket().shutdown(asio::socket_base::shutdown_both, ignored);
  stream_.close();
}

Task<bool> Connection::serve(Request request) {
  HttpExchange exchange(*this, std::move(request));
  watch();
  co_await handler_(exchange);
  on_disconnect_ = nullptr;
  const bool healthy = co_await exchange.end();
  co_await stop_watching();
  co_return healthy && !disconnected_;
}

// What is wrong with the HTTP itself, where the client can still be told.
std::optional<ApiError> protocol_error(const error_code& problem, int64_t max_body) {
  if (problem == http::error::body_limit) {
    return ApiError{413,
                    "the request body is larger than " + std::to_string(max_body) +
                        " bytes (setting max_body_bytes)",
                    "invalid_request_error", "", "body_too_large"};
  }
  if (problem == http::error::header_limit || problem == http::error::buffer_overflow) {
    return ApiError{431, "the request's headers are too large", "invalid_request_error", "", ""};
  }
  if (problem == beast::error::timeout) {
    return std::nullopt;
  }
  const bool about_http =
      problem.category() == http::make_error_code(http::error::bad_method).category();
  if (about_http && problem != http::error::end_of_stream &&
      problem != http::error::partial_message) {
    return ApiError{400, "this is not a valid HTTP request: " + problem.message(),
                    "invalid_request_error", "", ""};
  }
  return std::nullopt;
}

// Outside the coroutine: g++ 12 destroys braced temporaries of a co_await expression twice.
ApiError malformed_path() {
  return {400, "the request's path is malformed", "invalid_request_error", "", ""};
}

Task<bool> Connection::read_request(Request& request) {
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(static_cast<uint64_t>(limits_.max_body_bytes));
  error_code problem;
  stream_.expires_after(limits_.idle_timeout);
  co_await http::async_read_header(stream_, buffer_, parser, into(problem));
  if (!problem && !parser.is_done()) {
    // While a body arrives, the connection is busy: a shutdown lets it come in and be answered.
    idle_ = false;
    if (!co_await read_body(parser)) {
      co_return false;
    }
  }
  if (problem) {
    const std::optional<ApiError> error = protocol_error(problem, limits_.max_body_bytes);
    if (error) {
      co_await refuse(*error);
    }
    co_return false;
  }
  http::request<http::string_body> message = parser.release();
  version_ = message.version();
  keep_alive_ = message.keep_alive();
  request.method = std::string(message.method_string());
  request.is_unix_socket = is_unix_socket_;
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) {
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    request.headers[name] = std::string(field.value());
  }
  const beast::string_view target = message.target();
  if (!parse_target({target.data(), target.size()}, request)) {
    co_await refuse(malformed_path());
    co_return false;
  }
  request.body = std::move(message.body());
  co_return true;
}

Task<bool> Connection::read_body(Parser& parser) {
  error_code problem;
  stream_.expires_after(limits_.body_timeout);
  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(stream_, asio::buffer(kContinue), into(problem));
  }
  if (!problem) {
    co_await http::async_read(stream_, buffer_, parser, into(problem));
  }
  if (problem) {
    const std::optional<ApiError> error = protocol_error(problem, limits_.max_body_bytes);
    if (error) {
      co_await refuse(*error);
    }
    co_return false;
  }
  co_return true;
}

Task<void> Connection::refuse(ApiError error) {
  keep_alive_ = false;
  HttpExchange exchange(*this, Request{});
  exchange.record.route = "-";
  co_await exchange.respond(to_response(error));
  log_request(exchange.record);
  co_await linger();
}

// Reads on for a moment: closing with unread input makes the kernel send a reset, and the client
// would lose the answer that explains what was wrong.
Task<void> Connection::linger() {
  error_code problem;
  stream_.socket().shutdown(asio::socket_base::shutdown_send, problem);
  std::array<char, 16384> scrap{};
  stream_.expires_after(std::chrono::seconds(2));
  for (int reads = 0; reads < 4096 && !problem; ++reads) {
    co_await stream_.async_read_some(asio::buffer(scrap), into(problem));
  }
}

void Connection::watch() {
  watching_ = true;
  stop_watching_ = false;
  stream_.socket().async_wait(asio::socket_base::wait_read,
                              [self = shared_from_this()](const error_code& problem) {
                                if (self->stop_watching_ || problem) {
                                  self->watching_ = false;
                                  self->watch_ended_.cancel();
                                } else {
                                  self->on_readable();
                                }
                              });
}

// Input while a request is answered is the next request (kept for later) or the end of the stream.
void Connection::on_readable() {
  std::array<char, 16384> input{};
  const ssize_t count =
      ::recv(stream_.socket().native_handle(), input.data(), input.size(), MSG_DONTWAIT);
  const bool would_block = count < 0 && (errno == EAGAIN || errno == EINTR);
  watching_ = false;
  if (count > 0) {
    const auto room = buffer_.prepare(static_cast<size_t>(count));
    std::memcpy(room.data(), input.data(), static_cast<size_t>(count));
    buffer_.commit(static_cast<size_t>(count));
  }
  if (would_block || (count > 0 && buffer_.size() < kMaxPipelinedBytes)) {
    watch();
  } else if (count <= 0) {
    client_gone();
  }
}

Task<void> Connection::stop_watching() {
  stop_watching_ = true;
  if (watching_) {
    error_code ignored;
    stream_.socket().cancel(ignored);
  }
  while (watching_) {
    error_code ignored;
    watch_ended_.expires_after(std::chrono::seconds(1));
    co_await watch_ended_.async_wait(into(ignored));
  }
}

void Connection::client_gone() {
  if (!disconnected_) {
    disconnected_ = true;
    keep_alive_ = false;
    if (on_disconnect_) {
      on_disconnect_();
    }
  }
}

void Connection::finish() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->finishing_ = true;
    if (self->idle_) {
      self->stream_.close();
    }
  });
}

void Connection::close() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->finishing_ = true;
    self->client_gone();
    self->stream_.close();
  });
}

Task<void> run_connection(std::shared_ptr<Connection> connection, std::function<void()> ended) {
  try {
    co_await connection->run();
  } catch (const std::exception&) {
    connection->close();
  }
  ended();
}

}  // namespace

std::shared_ptr<ConnectionHandle> start_connection(asio::generic::stream_protocol::socket socket,
                                                   bool is_unix_socket, const HttpLimits& limits,
                                                   const Handler& handler,
                                                   std::function<void()> ended) {
  auto connection =
      std::make_shared<Connection>(std::move(socket), is_unix_socket, limits, handler);
  asio::co_spawn(connection->executor(), run_connection(connection, std::move(ended)),
                 asio::detached);
  return connection;
}

}  // namespace mlxr
