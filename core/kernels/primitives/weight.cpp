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

int64_t packed_size(std::span<Weight* const> weights) {
  int64_t total = 0;
  for (const Weight* w : weights) {
    if (w->ref.packed || !cpu::can_pack(w->ref)) return 0;
    total += cpu::packed_bytes(w->ref);
  }
  return total;
}

void pack_weights(std::span<Weight* const> weights, uint8_t* memory,
                  const std::shared_ptr<const void>& owner, ThreadPool& threads) {
  int64_t stride = 0;
  for (const Weight* w : weights) stride += cpu::packed_tile_bytes(w->ref);
  for (Weight* w : weights) {
    cpu::MatrixRef& ref = w->ref;
    const int64_t tile_bytes = cpu::packed_tile_bytes(ref);
    threads.parallel_for(cpu::packed_tiles(ref), 4, [&](int64_t begin, int64_t end, int) {
      cpu::pack_tiles(ref, begin, end, memory, stride);
    });
    ref.data = memory;
    ref.row_stride = 0;
    ref.packed = true;
    ref.tile_stride = stride;
    ref.scales = ref.biases = nullptr;
    w->owner = owner;
    memory += tile_bytes;
  }
}

}  // namespace mlxr
