#include "daemon/server/grpc/status.h"

#include <google/rpc/status.pb.h>
#include <grpcpp/server_context.h>
#include <mlxr/v1/inference.pb.h>

#include <algorithm>
#include <cctype>

namespace mlxr::rpc {
namespace {

bool is_retried(const ApiError& error) { return error.status == 429 || error.status == 503; }

std::chrono::seconds retry_delay(const ApiError& error) {
  return std::max(error.retry_after, std::chrono::seconds(1));
}

// "model_not_found" is MODEL_NOT_FOUND in this error model.
std::string reason_of(const ApiError& error) {
  std::string reason = error.code.empty() ? error.type : error.code;
  std::transform(reason.begin(), reason.end(), reason.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return reason;
}

google::rpc::Status details_of(const ApiError& error) {
  google::rpc::Status status;
  status.set_code(status_code(error));
  status.set_message(error.message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason_of(error));
  info.set_domain("mlxr");
  status.add_details()->PackFrom(info);
  if (error.status == 400 && !error.param.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(request_field(error.param));
    violation->set_description(error.message);
    status.add_details()->PackFrom(bad);
  }
  if (is_retried(error)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_delay(error).count());
    status.add_details()->PackFrom(retry);
  }
  return status;
}

}  // namespace

grpc::StatusCode status_code(const ApiError& error) {
  switch (error.status) {
    case 400:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case 401:
      return grpc::StatusCode::UNAUTHENTICATED;
    case 403:
      return grpc::StatusCode::PERMISSION_DENIED;
    case 404:
      return grpc::StatusCode::NOT_FOUND;
    case 422:  // trying again changes nothing until somebody changes the model
      return grpc::StatusCode::FAILED_PRECONDITION;
    case 429:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case 499:
      return grpc::StatusCode::CANCELLED;
    case 501:
      return grpc::StatusCode::UNIMPLEMENTED;
    case 503:
      return grpc::StatusCode::UNAVAILABLE;
    case 504:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    default:
      return grpc::StatusCode::INTERNAL;
  }
}

grpc::Status to_status(const ApiError& error) {
  return {status_code(error), error.message, details_of(error).SerializeAsString()};
}

void add_retry_delay(grpc::CallbackServerContext& context, const ApiError& error) {
  if (is_retried(error)) {
    const std::chrono::milliseconds delay = retry_delay(error);
    context.AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(delay.count()));
  }
}

std::string request_field(const std::string& param) {
  if (param == "top_logprobs") {
    return "options.logprobs";
  }
  const std::string head = param.substr(0, param.find_first_of(".["));
  if (v1::Sampling::descriptor()->FindFieldByName(head) != nullptr) {
    return "sampling." + param;
  }
  if (v1::AnswerOptions::descriptor()->FindFieldByName(head) != nullptr) {
    return "options." + param;
  }
  return param;
}

}  // namespace mlxr::rpc
