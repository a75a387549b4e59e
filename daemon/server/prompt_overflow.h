// A prompt that does not fit the context is blamed on the field that its client knows.
#pragma once

#include <string>

#include "core/base/error.h"

namespace mlxr {

// For the handler of `error`: throws RequestError naming `param` where the prompt was too long,
// else the error again.
[[noreturn]] void rethrow_blaming(const Error& error, const std::string& param, bool draining);

}  // namespace mlxr
