#include "core/kernels/primitives/weight.h"

#include "core/base/error.h"

namespace mlxr {
namespace mx = mlx::core;
namespace {

mx::array wrap_bytes(std::span<const std::byte> bytes, int64_t rows,
                     const std::shared_ptr<const void>& owner) {
  // MLX takes a mutable pointer; weights are never written (the mapping is read-only).
  void* data = const_cast<std::byte*>(bytes.data());
  const auto row_bytes = static_cast<int64_t>(bytes.size()) / rows;
  return mx::array(data, {static_cast<int>(rows), static_cast<int>(row_bytes)}, mx::uint8,
                   [owner](void*) {});
}

}  // namespace

void Weight::append_inputs(std::vector<mx::array>& inputs) const {
  inputs.push_back(data);
  if (scales) inputs.push_back(*scales);
  if (biases) inputs.push_back(*biases);
}

Weight wrap_weight(const WeightView& view) {
  const int64_t rows = view.rows(), cols = view.columns();
  const bool affine = view.format == QuantFormat::kMlxAffine;
  const int64_t expected =
      affine ? rows * cols * view.bits / 8 : rows * row_bytes(view.format, cols);
  if (rows <= 0 || cols <= 0 || static_cast<int64_t>(view.bytes.size()) != expected) {
    throw Error(ErrorCode::kCorruptFile,
                "tensor \"" + view.name + "\" does not have the size that its shape asks for");
  }
  Weight weight{.format = view.format,
                .rows = rows,
                .cols = cols,
                .bits = view.bits,
                .group = view.group,
                .scale_format = view.scale_format,
                .data = wrap_bytes(view.bytes, rows, view.owner),
                .scales = std::nullopt,
                .biases = std::nullopt};
  if (affine) {
    weight.scales = wrap_bytes(view.scales, rows, view.owner);
    weight.biases = wrap_bytes(view.biases, rows, view.owner);
  }
  return weight;
}

WeightLayout layout_of(const Weight& weight) {
  WeightLayout layout;
  layout.ref = {.format = weight.format,
                .rows = weight.rows,
                .cols = weight.cols,
                .data = nullptr,
                .row_stride = weight.data.shape(1),
                .bits = weight.bits,
                .group = weight.group,
                .scale_format = weight.scale_format,
                .scales = nullptr,
                .biases = nullptr};
  layout.inputs = weight.scales ? 3 : 1;
  return layout;
}

cpu::MatrixRef as_matrix(const WeightLayout& layout, const std::vector<mx::array>& inputs,
                         int first) {
  cpu::MatrixRef ref = layout.ref;
  const auto at = static_cast<size_t>(first);
  ref.data = inputs[at].data<uint8_t>();
  if (layout.inputs == 3) {
    ref.scales = inputs[at + 1].data<uint8_t>();
    ref.biases = inputs[at + 2].data<uint8_t>();
  }
  return ref;
}

}  // namespace mlxr
