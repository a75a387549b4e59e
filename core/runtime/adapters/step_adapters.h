// Which rows of a step have which adapters.
#pragma once

#include <span>

#include "core/graph/adapter.h"
#include "core/kernels/primitives/step_plan.h"
#include "core/runtime/engine.h"

namespace mlxr {

// `plan` is made of these slices, one for one. Neighbours with the same adapters are one range of
// rows: their products are computed together.
StepAdapters step_adapters(std::span<const SequenceSlice> slices, const StepPlan& plan);

}  // namespace mlxr
