#include "core/kernels/primitives/weight.h"

#include "core/base/error.h"
#include "core/kernels/cpu/packed_layout.h"

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
                .packed = false,
                .data = wrap_bytes(view.bytes, rows, view.owner),
                .scales = std::nullopt,
                .biases = std::nullopt};
  if (affine) {
    weight.scales = wrap_bytes(view.scales, rows, view.owner);
    weight.biases = wrap_bytes(view.biases, rows, view.owner);
  }
  return weight;
}

namespace {

cpu::MatrixRef as_matrix(const Weight& weight) {
  std::vector<mx::array> inputs;
  weight.append_inputs(inputs);
  return as_matrix(layout_of(weight), inputs, 0);
}

}  // namespace

int64_t packed_size(const Weight& weight) {
  if (weight.packed) return 0;
  const cpu::MatrixRef ref = as_matrix(weight);
  return cpu::can_pack(ref) ? cpu::packed_bytes(ref) : 0;
}

Weight pack_weight(const Weight& weight, uint8_t* memory, std::shared_ptr<void> owner,
                   ThreadPool& threads) {
  const cpu::MatrixRef ref = as_matrix(weight);
  const int64_t groups = (ref.rows + cpu::kGroupRows - 1) / cpu::kGroupRows;
  const int64_t group_bytes = cpu::packed_layout(ref).group_bytes(ref.cols);
  threads.parallel_for(groups, 8, [&](int64_t begin, int64_t end, int) {
    cpu::pack_groups(ref, begin, end, memory + begin * group_bytes);
  });
  Weight packed = weight;
  packed.packed = true;
  packed.data = mx::array(memory, {static_cast<int>(groups), static_cast<int>(group_bytes)},
                          mx::uint8, [owner = std::move(owner)](void*) {});
  packed.scales = packed.biases = std::nullopt;
  return packed;
}

WeightLayout layout_of(const Weight& weight) {
  WeightLayout layout;
  layout.ref = {
      .format = weight.format,
      .rows = weight.rows,
      .cols = weight.cols,
      .data = nullptr,
      .row_stride = weight.packed ? weight.data.shape(1) / cpu::kGroupRows : weight.data.shape(1),
      .packed = weight.packed,
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
