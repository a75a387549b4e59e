// The two formats that adapters come in, read to one form. Used by load_adapter alone.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/formats/weight_view.h"

namespace mlxr {

// What is added to one matrix, as it lies in the file.
struct AdapterPart {
  std::string module;  // the matrix, as a model of the same format calls it
  WeightView a, b;     // [rank, columns], [rows, rank]; not yet held against the model
  float scale = 1;
};

struct AdapterFile {
  std::filesystem::path path;
  bool gguf = false;  // whose names and order of rows it has; else Hugging Face's
  std::vector<AdapterPart> parts;
  std::vector<std::shared_ptr<const MappedFile>> files;  // where they lie
};

// A folder that PEFT wrote: adapter_config.json and adapter_model.safetensors.
AdapterFile read_peft_adapter(const std::filesystem::path& folder);

// A file of llama.cpp's converter. `architecture` is what GGUF calls the model's.
AdapterFile read_gguf_adapter(const std::filesystem::path& file, const std::string& architecture);

// Throws unless both are matrices that share their rank, which is returned.
int64_t rank_of(const std::filesystem::path& path, const WeightView& a, const WeightView& b);

// "[16, 2048]".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace mlxr
