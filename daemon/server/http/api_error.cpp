#include "daemon/server/http/api_error.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/scheduler/model_manager.h"

namespace mlxr {
namespace {

constexpr const char* kInvalidRequest = "invalid_request_error";

nlohmann::ordered_json text_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
}

}  // namespace

RequestError bad_field(const std::string& param, const std::string& message,
                       const std::string& code) {
  return RequestError({400, message, kInvalidRequest, param, code});
}

ApiError to_api_error(ErrorCode code, const std::string& message, bool draining) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return {400, message, kInvalidRequest, "", ""};
    case ErrorCode::kContextOverflow:
      return {400, message, kInvalidRequest, "messages", "context_length_exceeded"};
    case ErrorCode::kNotFound:
      return {404, message, kInvalidRequest, "model", "model_not_found"};
    // A file that cannot be served stays so: 422 keeps clients from trying again, as 5xx would.
    case ErrorCode::kCorruptFile:
      return {422, message, kInvalidRequest, "model", "model_corrupt"};
    case ErrorCode::kUnsupported:
      return {422, message, kInvalidRequest, "model", "unsupported"};
    case ErrorCode::kOutOfMemory:
      return {503, message, "server_error", "", "out_of_memory"};
    case ErrorCode::kUnavailable:
      if (draining) {
        return {503, message, "server_error", "", "shutting_down"};
      }
      return {429, message, "rate_limit_error", "", "queue_full"};
    case ErrorCode::kTimeout:
      return {504, message, "server_error", "", "timeout"};
    case ErrorCode::kIo:
      return {500, message, "server_error", "", "io_error"};
    case ErrorCode::kInternal:
      break;
  }
  return {500, message, "server_error", "", "internal_error"};
}

ApiError to_api_error(const std::exception_ptr& failure, bool draining) {
  try {
    std::rethrow_exception(failure);
  } catch (const RequestError& error) {
    return error.error();
  } catch (const QueueFull& full) {
    ApiError error = to_api_error(full.code(), full.what(), draining);
    error.retry_after = full.retry_after();
    return error;
  } catch (const StillLoading& loading) {
    return {503,     loading.what(),  "server_error",
            "model", "model_loading", std::chrono::seconds(10)};
  } catch (const Error& error) {
    return to_api_error(error.code(), error.what(), draining);
  } catch (const std::exception& error) {
    return to_api_error(ErrorCode::kInternal, error.what(), draining);
  }
}

std::string to_json(const ApiError& error) {
  nlohmann::ordered_json inner;
  inner["message"] = error.message;
  inner["type"] = error.type;
  inner["param"] = text_or_null(error.param);
  inner["code"] = text_or_null(error.code);
  return nlohmann::ordered_json{{"error", inner}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Response to_response(const ApiError& error) {
  Response response{error.status, "application/json", to_json(error), {}};
  if (error.status == 429 || error.status == 503) {
    const auto wait = std::max(error.retry_after, std::chrono::seconds(1));
    response.headers.emplace_back("Retry-After", std::to_string(wait.count()));
  }
  if (error.status == 401) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
  }
  return response;
}

}  // namespace mlxr
