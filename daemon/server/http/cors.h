// Lets the pages that may ask this server read what it answers (the Fetch standard's CORS
// protocol). Which pages those are, host_guard says: it refuses the others before anything here is
// asked.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "daemon/server/http/message.h"

namespace mlxr {

// What every answer to a page of another origin carries; nothing where there is no Origin.
std::vector<std::pair<std::string, std::string>> cors_headers(const Request& request);

// The answer to OPTIONS: the methods of the path, and to a browser that asks before it sends a
// request (a preflight) that it may. `allowed`: as Router::Match.
Response options_response(const Request& request, std::vector<std::string> allowed);

}  // namespace mlxr
