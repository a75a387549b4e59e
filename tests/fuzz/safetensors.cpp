// A file that calls itself safetensors: read, or refused with a clear error.
#include "core/formats/safetensors.h"
#include "core/base/error.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlxr;
  static const fuzz::MemoryFile file;
  try {
    const Safetensors read = Safetensors::open_file(file.with(fuzz::text_of(data, size)));
    for (const auto& [name, tensor] : read.tensors()) {
      try {
        fuzz::read_all(as_weight(name, tensor));
      } catch (const Error&) {  // of a type that is no weight's
      }
    }
  } catch (const Error& error) {
    fuzz::promise(*error.what() != '\0', "an error says something");
  }
  return 0;
}
