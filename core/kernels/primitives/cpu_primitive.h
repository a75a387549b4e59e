// What all our primitives share: outputs allocated, the work queued on the CPU stream.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/base/thread_pool.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
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

  // Queues `work`. It runs after this primitive may be gone: it must own all that it uses, except
  // the memory of inputs and outputs, which MLX keeps until the stream has passed.
  template <class Work>
  void enqueue(Work&& work) {
    mlx::core::cpu::get_command_encoder(stream()).dispatch(std::forward<Work>(work));
  }
};

inline float* floats(mlx::core::array& a) { return a.data<float>(); }
inline const float* floats(const mlx::core::array& a) { return a.data<float>(); }

}  // namespace mlxr
