// Everything that the daemon answers: guards, routes, errors in one shape, one log line a request.
#pragma once

#include "daemon/server/http/host_guard.h"
#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr {

class Api {
 public:
  explicit Api(Services& services);
  // Answers one request. Does not throw.
  Task<void> handle(Exchange& exchange);

 private:
  Task<void> dispatch(Exchange& exchange);
  Task<void> describe(Exchange& exchange);

  Services& services_;
  const HostRules host_rules_;
  Router router_;
};

}  // namespace mlxr
