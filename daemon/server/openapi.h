// The OpenAPI description of what this server answers, made from the table by which it answers.
#pragma once

#include <string>
#include <vector>

#include "daemon/server/http/router.h"
#include "daemon/server/json_body.h"

namespace mlxr {

// OpenAPI 3.1: every route with its method, path variables, summary, bodies, and the key that it
// needs. `schemas`: what the routes' bodies name, and "Error", "OllamaError", "AnthropicError".
Json openapi_document(const std::vector<RouteInfo>& routes, const std::string& version,
                      Json schemas = Json::object());

// The schemas of all APIs.
Json all_schemas();

}  // namespace mlxr
