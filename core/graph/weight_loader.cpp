#include "core/graph/weight_loader.h"

#include "core/base/error.h"
#include "core/graph/family.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

// Part `index` of the outermost dimension.
WeightView part(const WeightView& all, int32_t index) {
  const auto slice = [&](std::span<const std::byte> bytes) {
    const size_t size = bytes.size() / static_cast<size_t>(all.shape[0]);
    return bytes.subspan(size * static_cast<size_t>(index), size);
  };
  WeightView one = all;
  one.shape.erase(one.shape.begin());
  one.bytes = slice(all.bytes);
  one.scales = slice(all.scales);
  one.biases = slice(all.biases);
  return one;
}

}  // namespace

Weight WeightLoader::matrix(const std::string& module, int64_t rows, int64_t cols) const {
  return checked(require(module), rows, cols);
}

LinearWeight WeightLoader::linear(const std::string& module, int64_t rows, int64_t cols) const {
  LinearWeight out{matrix(module, rows, cols), std::nullopt};
  if (const auto bias = source_.bias(module)) out.bias = vector(*bias, rows);
  return out;
}

LinearWeight WeightLoader::expert(const std::string& module, int32_t expert, int64_t rows,
                                  int64_t cols) const {
  if (has_place(module)) return linear(in_layer(module, expert), rows, cols);
  const WeightView all = require(module);
  if (all.shape.size() != 3 || all.shape[0] != spec_.moe.experts) {
    wrong_shape(all, {spec_.moe.experts, rows, cols});
  }
  LinearWeight out{checked(part(all, expert), rows, cols), std::nullopt};
  if (const auto biases = source_.bias(module)) {
    if (biases->elements() != spec_.moe.experts * rows) {
      wrong_shape(*biases, {spec_.moe.experts, rows});
    }
    out.bias = vector(part(*biases, expert), rows);
  }
  return out;
}

NormWeight WeightLoader::norm(const std::string& module, int64_t n) const {
  NormWeight out{spec_.norm, spec_.norm_eps, vector(require(module), n, spec_.norm_offset), {}};
  if (const auto bias = source_.bias(module)) out.bias = vector(*bias, n);
  return out;
}

WeightView WeightLoader::require(const std::string& module) const {
  auto view = source_.weight(module);
  if (!view) {
    throw Error(ErrorCode::kCorruptFile, source_.where() + " lacks the tensor \"" + module +
                                             ".weight\"; download the model again");
  }
  return *view;
}

Weight WeightLoader::checked(const WeightView& view, int64_t rows, int64_t cols) const {
  if (view.rows() != rows || view.columns() != cols) wrong_shape(view, {rows, cols});
  return wrap_weight(view);
}

void WeightLoader::wrong_shape(const WeightView& view, const std::vector<int64_t>& wanted) const {
  const auto print = [](const std::vector<int64_t>& shape) {
    std::string out;
    for (int64_t size : shape) out += (out.empty() ? "[" : ", ") + std::to_string(size);
    return out + "]";
  };
  throw Error(ErrorCode::kCorruptFile, source_.where() + " has tensor \"" + view.name +
                                           "\" of shape " + print(view.shape) + " instead of " +
                                           print(wanted));
}

// Small vectors are decoded to float32 once: kernels add and multiply them as they are.
mx::array WeightLoader::vector(const WeightView& view, int64_t n, float offset) const {
  if (view.elements() != n) wrong_shape(view, {n});
  std::vector<float> values(static_cast<size_t>(n));
  WeightView row = view;
  row.shape = {1, n};
  dequantize_row(row, 0, values.data());
  for (float& v : values) v += offset;
  return mx::array(values.begin(), {static_cast<int>(n)}, mx::float32);
}

}  // namespace mlxr
