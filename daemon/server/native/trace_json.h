// A trace in Chrome's format, for chrome://tracing and ui.perfetto.dev: a process for each model,
// in it a thread for the engine's steps and one for each request.
#pragma once

#include <string>

#include "daemon/server/json_body.h"
#include "daemon/telemetry/trace.h"

namespace mlxr::native {

// With a name, only that request and the steps of its lifetime. Throws RequestError (404) for one
// that the trace does not know, or no longer.
Json chrome_trace(const Trace::Snapshot& snapshot, const std::string& request);

}  // namespace mlxr::native
