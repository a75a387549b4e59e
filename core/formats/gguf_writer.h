// Writes GGUF version 3 files. Tensors are produced one at a time while writing, so that a model
// larger than memory can be converted; the file appears under its name only when it is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/formats/gguf_reader.h"

namespace mlxr {

class GgufWriter {
 public:
  // Metadata in the order it is added. int64_t is written as u32 where it fits, else i32 or i64.
  void add(const std::string& key, GgufValue value);
  // `produce` fills the tensor's bytes when its turn comes.
  // shape: outermost first, as WeightView's; rows must be whole blocks of `format`.
  void add_tensor(const std::string& name, QuantFormat format, std::vector<int64_t> shape,
                  std::function<void(std::span<std::byte> out)> produce);
  // Throws Error{kIo} naming the path; nothing is left behind then.
  void write(const std::filesystem::path& path) const;

 private:
  struct Tensor {
    std::string name;
    QuantFormat format;
    std::vector<int64_t> shape;
    std::function<void(std::span<std::byte>)> produce;
    int64_t bytes() const;
  };
  std::string header() const;

  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<Tensor> tensors_;
};

}  // namespace mlxr
