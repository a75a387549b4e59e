// The methods of mlxr.v1.Models and mlxr.v1.Metrics.
#pragma once

#include "daemon/server/grpc/call.h"
#include "daemon/server/services.h"

namespace mlxr::rpc {

Task<void> list_models(Services& services, Call& call);
Task<void> get_model(Services& services, Call& call);
Task<void> load_model(Services& services, Call& call);
Task<void> unload_model(Services& services, Call& call);
Task<void> get_metrics(Services& services, Call& call);

}  // namespace mlxr::rpc
