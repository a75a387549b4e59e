// The endpoints that the mlx command uses: health, models with everything known about them, and
// loading, unloading and shutting down.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::native {

// Makes a file or folder known as a model; returns its name. For callers on the Unix socket.
// Throws RequestError and Error{kNotFound}.
std::string add_path(Services& services, const Exchange& exchange, const std::string& path);

void add_routes(Router& router, Services& services);

}  // namespace mlxr::native
