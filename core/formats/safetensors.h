// Reads safetensors: one file, or a sharded set named by model.safetensors.index.json. In place; no
// offset is trusted. Source: https://github.com/huggingface/safetensors (format description).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/formats/weight_view.h"

namespace mlxr {

// A tensor of any dtype, for readers of goldens and packed weights.
struct RawTensor {
  std::string dtype;  // "F32", "BF16", "U32", "I32"...
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

class Safetensors {
 public:
  // Throws Error{kCorruptFile} naming the file and the tensor.
  static Safetensors open_file(const std::filesystem::path& path);
  // Every tensor of a model folder: model.safetensors.index.json names the shards, else all
  // *.safetensors files. Throws Error{kNotFound} naming the shard that is missing.
  static Safetensors open_folder(const std::filesystem::path& folder);

  const std::map<std::string, RawTensor, std::less<>>& tensors() const { return tensors_; }
  const RawTensor* find(std::string_view name) const;
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }

 private:
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, RawTensor, std::less<>> tensors_;
};

// A float tensor as a weight. Throws Error{kUnsupported} naming the dtype when it is not F32, F16,
// BF16, F8_E4M3 or F8_E5M2.
WeightView as_weight(const std::string& name, const RawTensor& tensor);

}  // namespace mlxr
