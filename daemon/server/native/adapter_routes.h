// The LoRA adapters of models: llama-server's /lora-adapters, and adding one by its path.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::native {

void add_adapter_routes(Router& router, Services& services);

}  // namespace mlxr::native
