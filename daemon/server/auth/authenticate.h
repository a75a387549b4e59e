// Finds out who sent a request and whether they may ask for what they ask.
#pragma once

#include "daemon/server/auth/key_ring.h"
#include "daemon/server/http/message.h"
#include "daemon/server/http/router.h"

namespace mlxr {

// The key is taken from "Authorization: Bearer" or "x-api-key". Where keys are not `required`, and
// on the Unix socket, whoever sends none has every scope, and so has whoever sends a text that is
// no key of ours (clients insist on sending something); one that was revoked is refused even so.
// Throws RequestError (401; 500 when the keys cannot be read).
Caller authenticate(const Request& request, KeyRing& keys, bool required);

// Throws RequestError (403) naming the scope that is missing.
void check_access(const Caller& caller, Access access);

}  // namespace mlxr
