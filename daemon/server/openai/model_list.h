// The bodies of GET /v1/models and /v1/models/NAME.
#pragma once

#include "daemon/server/json_body.h"
#include "daemon/server/services.h"

namespace mlxr::openai {

// Models whose files can be read; `mlx list` shows the others with their errors.
Json model_list(Services& services);
// Throws Error{kNotFound} with the nearest names.
Json model_object(Services& services, const std::string& name);

}  // namespace mlxr::openai
