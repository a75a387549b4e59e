#pragma once

#include "daemon/server/http/exchange.h"
#include "daemon/server/json_body.h"

namespace mlxr {

// Answers with this body; a 503 says when to come back.
Task<void> send_json(Exchange& exchange, Json body, int status = 200);

}  // namespace mlxr
