// Every failure as the API shows it: one place decides status, type and code, in OpenAI's shape
// {"error": {message, type, param, code}}.
#pragma once

#include <chrono>
#include <exception>
#include <string>

#include "core/base/error.h"
#include "daemon/server/http/message.h"

namespace mlxr {

struct ApiError {
  int status = 500;
  std::string message;
  std::string type = "server_error";
  std::string param;                    // empty: null
  std::string code;                     // empty: null
  std::chrono::seconds retry_after{0};  // of 429 and 503; 0: a second
};

// Thrown by wire formats for what is wrong with a request's form.
class RequestError : public std::runtime_error {
 public:
  explicit RequestError(ApiError error)
      : std::runtime_error(error.message), error_(std::move(error)) {}
  const ApiError& error() const { return error_; }

 private:
  ApiError error_;
};

// 400 that blames one field.
RequestError bad_field(const std::string& param, const std::string& message,
                       const std::string& code = "");

// `draining` tells a full queue (429) from a shutdown (503).
ApiError to_api_error(ErrorCode code, const std::string& message, bool draining);
ApiError to_api_error(const std::exception_ptr& failure, bool draining);

std::string to_json(const ApiError& error);
Response to_response(const ApiError& error);

}  // namespace mlxr
