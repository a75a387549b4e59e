#include "daemon/server/grpc/calls.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/strand.hpp>
#include <optional>

#include "daemon/server/admission.h"

namespace mlxr::rpc {
namespace {

// Of a call whose client has gone: its deadline passed, or it was cancelled.
ApiError gone(const Call& call) {
  if (call.time_left() == std::chrono::milliseconds(0)) {
    return {504, "the call's deadline passed", "server_error", "", "timeout"};
  }
  return {499, "the call was cancelled", "invalid_request_error", "", "cancelled"};
}

}  // namespace

grpc::ServerUnaryReactor* Calls::unary(const Method& method, grpc::CallbackServerContext& context,
                                       const grpc::ByteBuffer& request,
                                       grpc::ByteBuffer& response) {
  const auto call = std::make_shared<UnaryCall>(context, request, response, method.name,
                                                asio::make_strand(executor_));
  start(method, call);
  return call.get();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* Calls::stream(const Method& method,
                                                          grpc::CallbackServerContext& context,
                                                          const grpc::ByteBuffer& request) {
  const auto call =
      std::make_shared<StreamCall>(context, request, method.name, asio::make_strand(executor_));
  start(method, call);
  return call.get();
}

void Calls::start(const Method& method, const std::shared_ptr<Call>& call) {
  call->keep();
  asio::co_spawn(call->executor(), answer(method, call), asio::detached);
}

Task<void> Calls::answer(const Method& method, std::shared_ptr<Call> call) {
  const auto began = std::chrono::steady_clock::now();
  std::exception_ptr failure;
  try {
    co_await dispatch(method, *call);
  } catch (...) {
    failure = std::current_exception();
  }
  if (call->disconnected()) {
    call->fail(gone(*call));
  } else if (failure) {
    call->fail(to_api_error(failure, services_.draining));
  }
  RequestRecord& record = call->record;
  if (record.status >= 500 && !call->disconnected()) {
    spdlog::error("request id={} failed: {}", record.id, call->failure()->message);
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  record.milliseconds = took.count();
  services_.requests.add(record);
  log_request(record);
  call->finish();
}

Task<void> Calls::dispatch(const Method& method, Call& call) {
  admit(call, services_, method.access);
  std::optional<Turn> turn;
  if (method.counts) {
    turn.emplace(services_.limiter, call);
  }
  co_await call.read_body();
  co_await method.answer(services_, call);
}

}  // namespace mlxr::rpc
