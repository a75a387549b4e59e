// What the scheduler needs of an engine, so that its tests can drive it with one that computes
// nothing.
#pragma once

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
};

std::unique_ptr<StepEngine> step_engine(std::unique_ptr<Engine> engine);

}  // namespace mlxr
