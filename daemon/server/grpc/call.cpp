#include "daemon/server/grpc/call.h"

#include <grpcpp/server_context.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <vector>

#include "daemon/server/grpc/status.h"
#include "daemon/server/http/peer.h"
#include "daemon/server/random_id.h"

namespace mlxr::rpc {
namespace {

// For the client to take a message, as in HTTP.
constexpr std::chrono::seconds kWriteTimeout{30};

std::string bytes_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (buffer.Valid() && buffer.Dump(&slices).ok()) {
    bytes.reserve(buffer.Length());
    for (const grpc::Slice& slice : slices) {
      bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  return bytes;
}

grpc::ByteBuffer to_buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

}  // namespace

Call::Call(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request,
           std::string method, const asio::any_io_executor& strand)
    : context_(context), deadline_(context.deadline()), timer_(strand), incoming_(request) {
  record.id = random_id("req_");
  record.route = "GRPC " + method;
  request_.method = "POST";
  request_.path = std::move(method);
  const std::string peer = context.peer();
  request_.is_unix_socket = peer.starts_with("unix:");
  request_.peer = peer_address(peer);
  for (const auto& [name, value] : context.client_metadata()) {
    request_.headers[std::string(name.begin(), name.end())] =
        std::string(value.begin(), value.end());
  }
  context.AddInitialMetadata("x-request-id", record.id);
}

// gRPC has read the one message of a call before it hands the call over; nobody's is copied who is
// refused.
Task<bool> Call::read_body() {
  request_.body = bytes_of(incoming_);
  incoming_.Clear();
  co_return true;
}

Task<bool> Call::read_piece(std::string& piece) {
  piece = bytes_of(incoming_);
  incoming_.Clear();
  co_return true;
}

Task<void> Call::respond(Response response) {
  outgoing_ = to_buffer(response.body);
  record.status = response.status;
  co_return;
}

// Starts an operation of gRPC and waits until it is done. False: the client is gone.
template <typename Start>
Task<bool> Call::run(Start start) {
  if (disconnected_) {
    co_return false;
  }
  pending_ = true;
  timer_.expires_after(kWriteTimeout);
  start();
  while (pending_ && std::chrono::steady_clock::now() < timer_.expiry()) {
    boost::system::error_code ignored;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  if (pending_) {  // the client does not read
    context_.TryCancel();
    client_gone();
  }
  co_return !disconnected_;
}

Task<bool> Call::begin_stream(std::string) {
  started_ = true;
  record.status = 200;
  for (const auto& [name, value] : extra_headers) {  // lower case, as HTTP/2 wants them
    context_.AddInitialMetadata(name, value);
  }
  co_return co_await run([this] { start_headers(); });
}

Task<bool> Call::write(std::string bytes) {
  if (bytes.empty()) {
    co_return !disconnected_;
  }
  if (!disconnected_) {
    outgoing_ = to_buffer(bytes);
  }
  co_return co_await run([this] { start_write(outgoing_); });
}

void Call::on_disconnect(std::function<void()> callback) { on_disconnect_ = std::move(callback); }

std::optional<std::chrono::milliseconds> Call::time_left() const {
  if (deadline_ == std::chrono::system_clock::time_point::max()) {
    return std::nullopt;
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline_ - std::chrono::system_clock::now());
  return std::max(left, std::chrono::milliseconds(0));
}

std::optional<std::chrono::milliseconds> Call::time_limit() const {
  const auto left = time_left();
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - began);
  return left ? std::optional(*left + passed) : std::nullopt;
}

void Call::fail(const ApiError& error) {
  failure_ = error;
  record.status = error.status;
}

void Call::finish() {
  on_disconnect_ = nullptr;
  if (failure_) {
    add_retry_delay(context_, *failure_);
  }
  start_finish(&outgoing_, failure_ ? to_status(*failure_) : grpc::Status::OK);
}

void Call::client_gone() {
  if (!disconnected_) {
    disconnected_ = true;
    if (on_disconnect_) {
      on_disconnect_();
    }
  }
}

void Call::operation_done(bool ok) {
  asio::post(timer_.get_executor(), [self = shared_from_this(), ok] {
    self->pending_ = false;
    self->timer_.cancel();
    if (!ok) {
      self->client_gone();
    }
  });
}

void Call::cancelled() {
  asio::post(timer_.get_executor(), [self = shared_from_this()] { self->client_gone(); });
}

void Call::release() {
  // The object may end here.
  const std::shared_ptr<Call> self = std::move(self_);
}

void UnaryCall::start_write(const grpc::ByteBuffer& message) {
  response_ = message;
  operation_done(true);
}

void UnaryCall::start_finish(const grpc::ByteBuffer* message, const grpc::Status& status) {
  response_ = *message;
  Finish(status);
}

void StreamCall::start_finish(const grpc::ByteBuffer*, const grpc::Status& status) {
  Finish(status);
}

}  // namespace mlxr::rpc
