// Turns a Hugging Face or MLX folder into one GGUF file.
#pragma once

#include <filesystem>
#include <string>

#include "core/formats/quant_format.h"

namespace mlxr {

struct ConvertReport {
  int64_t tensors = 0;
  int64_t bytes = 0;  // of the file
};

// Matrices are written in `type` (F16 where their rows are not whole blocks of it), vectors in F32;
// tokenizer, chat template and sampling defaults go along. The file appears when it is complete.
// Throws Error{kUnsupported} for a type that this build cannot write, a tokenizer or RoPE scaling
// that GGUF cannot express; Error{kCorruptFile} and Error{kNotFound} as load_model does.
ConvertReport convert_to_gguf(const std::filesystem::path& folder, const std::filesystem::path& out,
                              QuantFormat type);

// Names of the formats that it can write, for messages: "F32, F16, ...".
std::string writable_formats();

}  // namespace mlxr
