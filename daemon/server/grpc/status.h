// Every failure as gRPC shows it: one place maps what the HTTP API answers to a status code, with
// Google's error details for what programs want to know.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "daemon/server/http/api_error.h"

namespace grpc {
class CallbackServerContext;
}

namespace mlxr::rpc {

grpc::StatusCode status_code(const ApiError& error);

// With ErrorInfo, BadRequest and RetryInfo where they apply.
grpc::Status to_status(const ApiError& error);

// Tells clients with a retry policy when to come again, where that helps: RESOURCE_EXHAUSTED and
// UNAVAILABLE.
void add_retry_delay(grpc::CallbackServerContext& context, const ApiError& error);

// A field of the normal form, as the request message has it: "temperature" is
// "sampling.temperature".
std::string request_field(const std::string& param);

}  // namespace mlxr::rpc
