// One gRPC call as an exchange, so that what answers HTTP answers it too: serialized messages are
// written one after another, each when the transport took the one before, and the end is a status.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <utility>  // before Asio: see http/async.h

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "daemon/server/http/api_error.h"
#include "daemon/server/http/exchange.h"

namespace mlxr::rpc {

// Used on its executor only, which is a strand; gRPC's own threads leave their news there. Lives
// until gRPC is done with the call and everybody else has let it go.
class Call : public Exchange, public std::enable_shared_from_this<Call> {
 public:
  // `method`: "/mlxr.v1.Models/GetModel".
  Call(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request, std::string method,
       const asio::any_io_executor& strand);

  const Request& request() const override { return request_; }
  Request& mutable_request() override { return request_; }
  asio::any_io_executor executor() override { return timer_.get_executor(); }
  Task<bool> read_body() override;
  // The message at once, which is in memory anyway; then the end.
  Task<bool> read_piece(std::string& piece) override;
  // The only message of a unary call; goes out with finish().
  Task<void> respond(Response response) override;
  Task<bool> begin_stream(std::string content_type) override;
  // One message; nothing for no bytes.
  Task<bool> write(std::string bytes) override;
  bool started() const override { return started_; }
  bool disconnected() const override { return disconnected_; }
  void on_disconnect(std::function<void()> callback) override;

  // What the client waits from the call's beginning, and still waits; nothing: for ever.
  std::optional<std::chrono::milliseconds> time_limit() const;
  std::optional<std::chrono::milliseconds> time_left() const;

  // The call ends with this error; of several the last one counts.
  void fail(const ApiError& error);
  const std::optional<ApiError>& failure() const { return failure_; }
  // Ends the call, at last and once; its context is gone then.
  void finish();

 protected:
  virtual void start_headers() = 0;
  virtual void start_write(const grpc::ByteBuffer& message) = 0;
  // `message`: what respond() was given.
  virtual void start_finish(const grpc::ByteBuffer* message, const grpc::Status& status) = 0;

  // From gRPC's threads.
  void operation_done(bool ok);
  void cancelled();
  // gRPC will not touch this object again.
  void release();
  // Until release().
  void keep() { self_ = shared_from_this(); }
  friend class Calls;

 private:
  template <typename Start>
  Task<bool> run(Start start);
  void client_gone();

  grpc::CallbackServerContext& context_;
  const std::chrono::system_clock::time_point deadline_;
  Request request_;
  std::shared_ptr<Call> self_;
  asio::steady_timer timer_;  // expires early when an operation is done
  bool pending_ = false;      // gRPC is at an operation
  bool started_ = false;
  bool disconnected_ = false;
  std::function<void()> on_disconnect_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::optional<ApiError> failure_;
};

class UnaryCall : public Call, public grpc::ServerUnaryReactor {
 public:
  UnaryCall(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request,
            grpc::ByteBuffer& response, std::string method, const asio::any_io_executor& strand)
      : Call(context, request, std::move(method), strand), response_(response) {}

 private:
  void start_headers() override { StartSendInitialMetadata(); }
  void start_write(const grpc::ByteBuffer& message) override;
  void start_finish(const grpc::ByteBuffer* message, const grpc::Status& status) override;
  void OnSendInitialMetadataDone(bool ok) override { operation_done(ok); }
  void OnCancel() override { cancelled(); }
  void OnDone() override { release(); }

  grpc::ByteBuffer& response_;
};

class StreamCall : public Call, public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  using Call::Call;

 private:
  void start_headers() override { StartSendInitialMetadata(); }
  void start_write(const grpc::ByteBuffer& message) override { StartWrite(&message); }
  void start_finish(const grpc::ByteBuffer* message, const grpc::Status& status) override;
  void OnSendInitialMetadataDone(bool ok) override { operation_done(ok); }
  void OnWriteDone(bool ok) override { operation_done(ok); }
  void OnCancel() override { cancelled(); }
  void OnDone() override { release(); }
};

}  // namespace mlxr::rpc
