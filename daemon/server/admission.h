// Who may make a request, and how many of them: what every protocol asks before it answers.
#pragma once

#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr {

// Finds out whose request it is, notes that, and refuses who may not make it. Who needs no scope
// needs no key either: what probes and load balancers ask. Throws as authenticate and check_access.
void admit(Exchange& exchange, Services& services, Access access);

// Throws RequestError (403): `what` is for the daemon's owner, whom its Unix socket tells.
void require_unix_socket(const Exchange& exchange, const std::string& what);

// A request to a model, from its beginning to its end, as the limits count it.
class Turn {
 public:
  // Throws as RateLimiter::begin.
  Turn(RateLimiter& limiter, const Exchange& exchange);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  RateLimiter& limiter_;
  const Exchange& exchange_;
};

}  // namespace mlxr
