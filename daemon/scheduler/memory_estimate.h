// What serving a model takes in memory, added up from what core knows before it is loaded.
#pragma once

#include <cstdint>
#include <string>

#include "core/runtime/kv/kv_plan.h"
#include "core/runtime/model_memory.h"
#include "daemon/scheduler/scheduler.h"

namespace mlxr {

struct MemoryEstimate {
  int64_t weights = 0;      // interleaved: memory of our own
  int64_t kv = 0;           // the arena, when it is full
  int64_t activations = 0;  // of a full step
  int64_t other = 0;        // the tokenizer, and KV blocks on their way to the disk
  // Weights used where they lie in their file. The system takes such pages back when it is short of
  // memory, and reads them again: not part of the total.
  int64_t mapped = 0;

  int64_t total() const { return weights + kv + activations + other; }
  MemoryEstimate& operator+=(const MemoryEstimate& more);
  bool operator==(const MemoryEstimate&) const = default;
};

// `kv_disk`: its KV blocks are kept on disk.
MemoryEstimate estimate_memory(const ModelMemory& model, const KvPlan& kv,
                               const SchedulerOptions& scheduler, bool kv_disk);

// "1.5 GiB", "12 MiB".
std::string size_text(int64_t bytes);

}  // namespace mlxr
