// The services of proto/mlxr/v1, each method with what it needs. Messages stay bytes here: calls
// read and write them.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>
#include <vector>

#include "daemon/server/grpc/calls.h"

namespace mlxr::rpc {

// They use `calls` for as long as they live.
std::vector<std::unique_ptr<grpc::Service>> make_services(Calls& calls);

// Their names, as health checks and reflection know them.
std::vector<std::string> service_names();

}  // namespace mlxr::rpc
