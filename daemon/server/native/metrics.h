// What the server and its loaded models count, in Prometheus' text format 0.0.4.
#pragma once

#include <string>

#include "daemon/server/services.h"

namespace mlxr::native {

inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// Samples of a model carry the label `model`; their counters begin when it is loaded.
std::string metrics_text(const Services& services);

}  // namespace mlxr::native
