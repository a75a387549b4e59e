// Answers gRPC calls: who may make them, errors as statuses, one log line each.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <string>

#include "daemon/server/grpc/call.h"
#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::rpc {

struct Method {
  std::string name;  // "/mlxr.v1.Models/GetModel"
  Access access = Access::kInference;
  bool counts = false;  // against its caller's limits
  Task<void> (*answer)(Services& services, Call& call) = nullptr;
};

class Calls {
 public:
  // Calls are answered on strands of `executor`.
  Calls(Services& services, asio::any_io_executor executor)
      : services_(services), executor_(std::move(executor)) {}

  // The reactor of a new call, whose answer has begun. `method` must outlive it.
  grpc::ServerUnaryReactor* unary(const Method& method, grpc::CallbackServerContext& context,
                                  const grpc::ByteBuffer& request, grpc::ByteBuffer& response);
  grpc::ServerWriteReactor<grpc::ByteBuffer>* stream(const Method& method,
                                                     grpc::CallbackServerContext& context,
                                                     const grpc::ByteBuffer& request);

 private:
  void start(const Method& method, const std::shared_ptr<Call>& call);
  Task<void> answer(const Method& method, std::shared_ptr<Call> call);
  Task<void> dispatch(const Method& method, Call& call);

  Services& services_;
  asio::any_io_executor executor_;
};

}  // namespace mlxr::rpc
