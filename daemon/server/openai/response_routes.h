// /v1/responses: create, read, go on from and delete.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::openai {

void add_response_routes(Router& router, Services& services);

}  // namespace mlxr::openai
