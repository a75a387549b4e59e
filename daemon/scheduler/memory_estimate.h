// What serving a model takes in memory, added up from what core knows before it is loaded.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/runtime/adapters/adapter.h"
#include "core/runtime/kv/kv_plan.h"
#include "core/runtime/model_memory.h"
#include "daemon/scheduler/scheduler.h"

namespace mlxr {

struct MemoryEstimate {
  int64_t weights = 0;      // interleaved: memory of our own
  int64_t kv = 0;           // the arena, when it is full
  int64_t activations = 0;  // of a full step
  int64_t other = 0;        // the tokenizer, and KV blocks on their way to the disk
  int64_t adapters = 0;     // of the settings, when all were asked for
  // Weights used where they lie in their file. The system takes such pages back when it is short of
  // memory, and reads them again: not part of the total.
  int64_t mapped = 0;

  int64_t total() const { return weights + kv + activations + other + adapters; }
  MemoryEstimate& operator+=(const MemoryEstimate& more);
  bool operator==(const MemoryEstimate&) const = default;
};

// `kv_disk`: its KV blocks are kept on disk. `adapters`: those that it may use.
MemoryEstimate estimate_memory(const ModelMemory& model, const KvPlan& kv,
                               const SchedulerOptions& scheduler, bool kv_disk,
                               std::span<const AdapterMemory> adapters = {});

// The most logits that a step may ask for: one row for each answer, and one for each token that is
// proposed.
int64_t most_logit_rows(const SchedulerOptions& scheduler);

// "1.5 GiB", "12 MiB".
std::string size_text(int64_t bytes);

}  // namespace mlxr
