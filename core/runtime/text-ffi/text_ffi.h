// What both faces of the Rust text library share: spans in, owned text out, a status into an Error.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/runtime/text-ffi/include/mlxr_text.h"

namespace mlxr::text_ffi {

inline mlxr_text_span span_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Copies the text and gives the buffer back.
inline std::string take(mlxr_text_buffer buffer) {
  std::string text;
  if (buffer.size > 0) text.assign(reinterpret_cast<const char*>(buffer.data), buffer.size);
  mlxr_text_buffer_free(buffer);
  return text;
}

inline ErrorCode code_of(mlxr_text_status status) {
  switch (status) {
    case MLXR_TEXT_CORRUPT:
      return ErrorCode::kCorruptFile;
    case MLXR_TEXT_UNSUPPORTED:
      return ErrorCode::kUnsupported;
    case MLXR_TEXT_INVALID:
      return ErrorCode::kInvalidArgument;
    case MLXR_TEXT_OK:
    case MLXR_TEXT_INTERNAL:
      break;
  }
  return ErrorCode::kInternal;
}

// Throws the Error that `status` stands for, with the sentence in `error` (which it gives back).
inline void check(mlxr_text_status status, const mlxr_text_buffer& error) {
  if (status != MLXR_TEXT_OK) throw Error(code_of(status), take(error));
}

}  // namespace mlxr::text_ffi
