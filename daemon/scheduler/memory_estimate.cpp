#include "daemon/scheduler/memory_estimate.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/runtime/kv/kv_disk.h"

namespace mlxr {

MemoryEstimate& MemoryEstimate::operator+=(const MemoryEstimate& more) {
  weights += more.weights;
  kv += more.kv;
  activations += more.activations;
  other += more.other;
  mapped += more.mapped;
  return *this;
}

MemoryEstimate estimate_memory(const ModelMemory& model, const KvPlan& kv,
                               const SchedulerOptions& scheduler, bool kv_disk) {
  const int64_t tokens = scheduler.max_batch_tokens;
  // A row for each answer. Speculation wants more of them, but only where few answers run.
  const int64_t rows = std::min<int64_t>(tokens, scheduler.max_sequences);
  return {.weights = model.weights.interleaved,
          .kv = kv.bytes(),
          .activations = activation_bytes(model.spec, tokens, rows),
          .other = model.text + (kv_disk ? KvDiskOptions().queue_bytes : 0),
          .mapped = model.weights.mapped};
}

std::string size_text(int64_t bytes) {
  constexpr double kKiB = 1024;
  static constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= kKiB && unit + 1 < kUnits.size(); ++unit) value /= kKiB;
  std::array<char, 32> text{};
  const bool whole = unit == 0 || value >= 100;
  std::snprintf(text.data(), text.size(), whole ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace mlxr
