#include "daemon/scheduler/request_check.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace mlxr {
namespace {

void check_pooled(const GenerateRequest& request, const ModelSpec& spec, int32_t window) {
  if (static_cast<int64_t>(request.prompt.size()) > window) {
    throw Error(ErrorCode::kContextOverflow, "the input has " +
                                                 std::to_string(request.prompt.size()) +
                                                 " tokens and the context window holds " +
                                                 std::to_string(window) + "; shorten the input");
  }
  const int32_t types = spec.encoder ? std::max(1, spec.token_types) : 0;
  const bool fits = request.token_types.empty() ||
                    (request.token_types.size() == request.prompt.size() &&
                     std::ranges::all_of(request.token_types,
                                         [&](int32_t type) { return type >= 0 && type < types; }));
  if (!fits) throw Error(ErrorCode::kInvalidArgument, "the input has wrong token types");
}

void check_answered(const GenerateRequest& request, int32_t window) {
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  if (tokens + (request.max_tokens != 0 ? 1 : 0) > window) {
    throw Error(ErrorCode::kContextOverflow, "the prompt has " + std::to_string(tokens) +
                                                 " tokens and the context window holds " +
                                                 std::to_string(window) +
                                                 ", answer included; shorten the prompt");
  }
}

}  // namespace

void check_request(const GenerateRequest& request, const Model& model, int32_t window) {
  if (request.prompt.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "the prompt is empty; send at least one token");
  }
  if (request.pooling) {
    check_pooled(request, model.spec, window);
  } else {
    check_can_answer(model);
    check_answered(request, window);
  }
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= model.spec.vocab) {
      throw Error(ErrorCode::kInvalidArgument, "the prompt has token " + std::to_string(token) +
                                                   ", outside the vocabulary of " +
                                                   std::to_string(model.spec.vocab));
    }
  }
}

}  // namespace mlxr
