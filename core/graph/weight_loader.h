// Finds a model's tensors by the names of its modules, and checks their shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/model_spec.h"
#include "core/graph/tensor_source.h"
#include "core/kernels/primitives/ops.h"

namespace mlxr {

// Throws Error{kCorruptFile} naming a tensor that is missing or has the wrong shape. Refers to what
// it was made from.
class WeightLoader {
 public:
  WeightLoader(const TensorSource& source, const ModelSpec& spec) : source_(source), spec_(spec) {}

  Weight matrix(const std::string& module, int64_t rows, int64_t cols) const;
  LinearWeight linear(const std::string& module, int64_t rows, int64_t cols) const;
  // The matrix of one expert, from a tensor of its own or from that of all.
  LinearWeight expert(const std::string& module, int32_t expert, int64_t rows, int64_t cols) const;
  NormWeight norm(const std::string& module, int64_t n) const;
  bool has(const std::string& module) const { return source_.weight(module).has_value(); }

 private:
  WeightView require(const std::string& module) const;
  Weight checked(const WeightView& view, int64_t rows, int64_t cols) const;
  [[noreturn]] void wrong_shape(const WeightView& view, const std::vector<int64_t>& wanted) const;
  mlx::core::array vector(const WeightView& view, int64_t n, float offset = 0) const;

  const TensorSource& source_;
  const ModelSpec& spec_;
};

}  // namespace mlxr
