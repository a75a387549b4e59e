// The one exception type of MLXR. A message is written for the person who reads it: what is wrong,
// where, and what to do. The code decides the HTTP status and the exit status, never the wording.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mlxr {

enum class ErrorCode {
  kInvalidArgument,  // the caller's input is wrong (HTTP 400)
  kContextOverflow,  // the prompt does not fit the context window (HTTP 400)
  kNotFound,         // no such model, file or route (HTTP 404)
  kCorruptFile,      // a file is truncated, damaged or not what it says
  kUnsupported,      // well formed, but this build cannot do it
  kOutOfMemory,      // a budget or the machine is exhausted
  kUnavailable,      // busy, loading or shutting down (HTTP 503)
  kTimeout,          // the caller's own deadline passed (HTTP 504)
  kIo,               // the operating system refused
  kInternal,         // a bug of ours
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace mlxr
