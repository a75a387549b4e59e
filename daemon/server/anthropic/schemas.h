// The schemas of this API's bodies, by name.
#pragma once

#include "daemon/server/json_body.h"

namespace mlxr::anthropic {

Json schemas();

}  // namespace mlxr::anthropic
