// The endpoints that the mlx command uses: health, models with everything known about them, and
// loading, unloading and shutting down.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::native {

void add_routes(Router& router, Services& services);

}  // namespace mlxr::native
