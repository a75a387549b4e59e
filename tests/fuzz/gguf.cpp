// A file that calls itself GGUF: read, or refused with a clear error; every tensor can be decoded.
#include "core/base/error.h"
#include "core/formats/gguf_reader.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlxr;
  static const fuzz::MemoryFile file;
  try {
    const auto gguf = GgufFile::open(file.with(fuzz::text_of(data, size)));
    for (const WeightView& tensor : gguf->tensors()) {
      fuzz::promise(gguf->find(tensor.name) == &tensor, "a tensor is found by its name");
      fuzz::read_all(tensor);
    }
    gguf->text("general.architecture");
    gguf->array("tokenizer.ggml.tokens");
  } catch (const Error& error) {
    fuzz::promise(*error.what() != '\0', "an error says something");
  }
  return 0;
}
