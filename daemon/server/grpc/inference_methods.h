// The methods of mlxr.v1.Inference.
#pragma once

#include "daemon/server/grpc/call.h"
#include "daemon/server/services.h"

namespace mlxr::rpc {

Task<void> generate(Services& services, Call& call);
Task<void> chat(Services& services, Call& call);
Task<void> embed(Services& services, Call& call);
Task<void> tokenize(Services& services, Call& call);
Task<void> detokenize(Services& services, Call& call);

}  // namespace mlxr::rpc
