// What all our primitives share on the CPU: outputs are allocated and the work is done at once, on
// the caller's thread and its pool.
//
// Lazily, through mx::eval, MLX would hand each primitive to its stream's thread: 3 to 5 us each,
// some 200 times a token, and a third busy thread where a laptop has two cores to spare. So the
// free functions of ops.h evaluate a CPU primitive as they make it, with run(). It remains an
// mx::Primitive, whose inputs must have been evaluated, for the devices where laziness pays.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/primitives/ops.h"
#include "mlx/allocator.h"
#include "mlx/primitives.h"

namespace mlxr {

class CpuPrimitive : public mlx::core::Primitive {
 public:
  using mlx::core::Primitive::Primitive;

  void eval_gpu(const std::vector<mlx::core::array>&, std::vector<mlx::core::array>&) override {
    throw std::runtime_error(std::string("[") + name() + "] has no GPU kernel in this build");
  }

 protected:
  static void allocate(std::vector<mlx::core::array>& outputs) {
    for (auto& out : outputs) out.set_data(mlx::core::allocator::malloc(out.nbytes()));
  }
};

// Evaluates a primitive now; its outputs are float32 arrays of `shapes`.
inline std::vector<mlx::core::array> run(const KernelContext& context, CpuPrimitive&& primitive,
                                         const std::vector<mlx::core::Shape>& shapes,
                                         const std::vector<mlx::core::array>& inputs) {
  std::vector<mlx::core::array> outputs;
  for (const mlx::core::Shape& shape : shapes) {
    outputs.emplace_back(shape, mlx::core::float32, nullptr, std::vector<mlx::core::array>{});
  }
  if (context.times == nullptr) {
    primitive.eval_cpu(inputs, outputs);
  } else {
    const auto start = std::chrono::steady_clock::now();
    primitive.eval_cpu(inputs, outputs);
    context.times->add(primitive.name(), std::chrono::steady_clock::now() - start);
  }
  for (const auto& out : outputs) out.set_status(mlx::core::array::Status::available);
  return outputs;
}

inline float* floats(mlx::core::array& a) { return a.data<float>(); }
inline const float* floats(const mlx::core::array& a) { return a.data<float>(); }

}  // namespace mlxr
