#include "core/kernels/primitives/weight.h"

#include "core/base/error.h"
#include "core/kernels/cpu/packed_layout.h"

namespace mlxr {
namespace {

const uint8_t* address(std::span<const std::byte> bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

}  // namespace

Weight wrap_weight(const WeightView& view) {
  const int64_t rows = view.rows(), cols = view.columns();
  const bool affine = view.format == QuantFormat::kMlxAffine;
  const int64_t expected =
      affine ? rows * cols * view.bits / 8 : rows * row_bytes(view.format, cols);
  if (rows <= 0 || cols <= 0 || static_cast<int64_t>(view.bytes.size()) != expected) {
    throw Error(ErrorCode::kCorruptFile,
                "tensor \"" + view.name + "\" does not have the size that its shape asks for");
  }
  return {.ref = {.format = view.format,
                  .rows = rows,
                  .cols = cols,
                  .data = address(view.bytes),
                  .row_stride = expected / rows,
                  .packed = false,
                  .bits = view.bits,
                  .group = view.group,
                  .scale_format = view.scale_format,
                  .scales = affine ? address(view.scales) : nullptr,
                  .biases = affine ? address(view.biases) : nullptr},
          .owner = view.owner};
}

int64_t packed_size(const Weight& weight) {
  return !weight.ref.packed && cpu::can_pack(weight.ref) ? cpu::packed_bytes(weight.ref) : 0;
}

Weight pack_weight(const Weight& weight, uint8_t* memory, std::shared_ptr<const void> owner,
                   ThreadPool& threads) {
  const cpu::MatrixRef& ref = weight.ref;
  const int64_t groups = (ref.rows + cpu::kGroupRows - 1) / cpu::kGroupRows;
  const int64_t group_bytes = cpu::packed_layout(ref).group_bytes(ref.cols);
  threads.parallel_for(groups, 8, [&](int64_t begin, int64_t end, int) {
    cpu::pack_groups(ref, begin, end, memory + begin * group_bytes);
  });
  Weight packed{.ref = ref, .owner = std::move(owner)};
  packed.ref.data = memory;
  packed.ref.row_stride = group_bytes / cpu::kGroupRows;
  packed.ref.packed = true;
  packed.ref.scales = packed.ref.biases = nullptr;
  return packed;
}

}  // namespace mlxr
