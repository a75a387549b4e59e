// Types of the values in a GGUF file's header (ggml's docs/gguf.md, gguf_metadata_value_type).
#pragma once

#include <cstdint>

namespace mlxr::gguf {

enum ValueType : uint32_t {
  kU8 = 0,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

}  // namespace mlxr::gguf
