// Low-rank adapters (LoRA, Hu et al. 2021) as the decoder applies them: what they add to which
// products of each layer, and to which rows of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/kernels/primitives/weight.h"

namespace mlxr {

// scale * b(a(x)) is added to the product of x.
struct LoraWeight {
  Weight a, b;  // [rank, columns] and [rows, rank] of the adapted matrix
  float scale = 1;
};

// `gate`, `up` and `down` are those of a layer without experts.
struct AdapterLayer {
  std::optional<LoraWeight> q, k, v, o, gate, up, down;
};

struct AdapterWeights {
  std::vector<AdapterLayer> layers;
};

// Rows [first, first + count) have this adapter. Those that have several occur several times, in
// the order in which they are added.
struct AdapterRows {
  std::shared_ptr<const AdapterWeights> adapter;
  float scale = 1;
  int32_t first = 0, count = 0;
};

struct StepAdapters {
  std::vector<AdapterRows> rows;         // among all tokens of a step
  std::vector<AdapterRows> result_rows;  // among those whose results are wanted
};

}  // namespace mlxr
