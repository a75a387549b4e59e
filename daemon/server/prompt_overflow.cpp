#include "daemon/server/prompt_overflow.h"

#include "daemon/server/http/api_error.h"

namespace mlxr {

void rethrow_blaming(const Error& error, const std::string& param, bool draining) {
  if (error.code() != ErrorCode::kContextOverflow) {
    throw;
  }
  ApiError shown = to_api_error(error.code(), error.what(), draining);
  shown.param = param;
  throw RequestError(shown);
}

}  // namespace mlxr
