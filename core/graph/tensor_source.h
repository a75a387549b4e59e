// Where a decoder finds its tensors, whatever the file format. Names are a module's path without
// the
// ".weight" or ".bias" at its end.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/formats/weight_view.h"

namespace mlxr {

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The module's weight, nullopt when there is none. Throws Error{kUnsupported} for a tensor that
  // is there in a format this build cannot use.
  virtual std::optional<WeightView> weight(const std::string& module) const = 0;
  virtual std::optional<WeightView> bias(const std::string& module) const = 0;
  virtual std::vector<std::shared_ptr<const MappedFile>> files() const = 0;
  // For error messages: the file or folder.
  virtual std::string where() const = 0;
};

class GgufFile;
class Safetensors;
std::unique_ptr<TensorSource> gguf_source(std::shared_ptr<const GgufFile> file);
// `group_size`: of MLX-quantised weights; 0 when the model has none. `optional_prefix`: modules
// whose names begin with it are sought without it too.
std::unique_ptr<TensorSource> safetensors_source(Safetensors tensors, std::string where,
                                                 int32_t group_size,
                                                 std::string optional_prefix = "");

}  // namespace mlxr
