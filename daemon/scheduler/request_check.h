// What a model can be asked at all.
#pragma once

#include <cstdint>

#include "core/runtime/model.h"
#include "daemon/scheduler/generate_request.h"

namespace mlxr {

// `window`: tokens that a sequence may hold, answer included. Throws Error{kInvalidArgument,
// kContextOverflow}, and as check_can_answer.
void check_request(const GenerateRequest& request, const Model& model, int32_t window);

}  // namespace mlxr
