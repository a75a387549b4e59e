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
  adapters += more.adapters;
  mapped += more.mapped;
  return *this;
}

int64_t most_logit_rows(const SchedulerOptions& scheduler) {
  const int64_t answers = scheduler.max_sequences;
  const SpeculationOptions& speculation = scheduler.speculation;
  const int64_t proposed = speculation.mode == SpeculationMode::kOff
                               ? 0
                               : std::min(kMostProposed, answers * speculation.depth.deepest);
  return std::min<int64_t>(scheduler.max_batch_tokens, answers + proposed);
}

MemoryEstimate estimate_memory(const ModelMemory& model, const KvPlan& kv,
                               const SchedulerOptions& scheduler, bool kv_disk,
                               std::span<const AdapterMemory> adapters) {
  const int64_t tokens = scheduler.max_batch_tokens;
  int64_t adapter_bytes = 0, ranks = 0;
  for (const AdapterMemory& adapter : adapters) {
    adapter_bytes += adapter.bytes;
    ranks += adapter.rank;
  }
  return {.weights = model.weights.interleaved,
          .kv = kv.bytes(),
          .activations = activation_bytes(model.spec, tokens, most_logit_rows(scheduler)) +
                         adapter_activation_bytes(tokens, ranks),
          .other = model.text + (kv_disk ? KvDiskOptions().queue_bytes : 0),
          .adapters = adapter_bytes,
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
