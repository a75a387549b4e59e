// Why a model does not fit the memory, in words.
#pragma once

#include <string>

#include "core/base/error.h"
#include "daemon/scheduler/eviction.h"
#include "daemon/scheduler/memory_estimate.h"

namespace mlxr {

// Of an eviction that does not fit.
Error cannot_load(const std::string& model, const MemoryEstimate& memory,
                  const MemoryLimits& limits, const Eviction& eviction);
Error cannot_add_adapter(const std::string& adapter, int64_t bytes, const MemoryLimits& limits,
                         const Eviction& eviction);

}  // namespace mlxr
