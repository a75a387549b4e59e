// What the scheduler needs of an engine, so that its tests can drive it with one that computes
// nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/runtime/engine.h"

namespace mlxr {

class StepEngine {
 public:
  virtual ~StepEngine() = default;
  virtual const Model& model() const = 0;
  virtual int32_t context_length() const = 0;
  virtual int64_t kv_bytes() const = 0;
  virtual Pager& pager() = 0;
  virtual StepLogits step(std::span<const SequenceSlice> slices) = 0;
  // Of all steps; null where nobody counts.
  virtual const KernelTimes* kernel_times() const { return nullptr; }
  // Blocks as they are kept on disk; 0: they are not.
  virtual int64_t block_bytes() const { return 0; }
  virtual void save_block(BlockId /*block*/, std::span<std::byte> /*to*/) const {}
  virtual void load_block(BlockId /*block*/, std::span<const std::byte> /*from*/) {}
  // The time that steps and deadlines are measured in.
  virtual std::chrono::steady_clock::time_point now() const {
    return std::chrono::steady_clock::now();
  }
};

std::unique_ptr<StepEngine> step_engine(std::unique_ptr<Engine> engine);

}  // namespace mlxr
