#include "core/runtime/adapters/step_adapters.h"

#include <algorithm>

namespace mlxr {
namespace {

void add_rows(std::span<const ScaledAdapter> adapters, int32_t first, int32_t count,
              std::vector<AdapterRows>& out) {
  if (count == 0) return;
  for (const ScaledAdapter& scaled : adapters) {
    out.push_back({scaled.adapter->weights, scaled.scale, first, count});
  }
}

}  // namespace

StepAdapters step_adapters(std::span<const SequenceSlice> slices, const StepPlan& plan) {
  StepAdapters out;
  int32_t first = 0, results = 0;  // of the neighbours that are being gathered
  for (size_t i = 0; i < slices.size(); ++i) {
    const auto& adapters = slices[i].adapters;
    const int32_t end = plan.slices[i].first + plan.slices[i].count;
    if (i + 1 < slices.size() && std::ranges::equal(adapters, slices[i + 1].adapters)) continue;
    const auto past = std::ranges::lower_bound(plan.result_rows, end);
    const auto results_end = static_cast<int32_t>(past - plan.result_rows.begin());
    add_rows(adapters, first, end - first, out.rows);
    add_rows(adapters, results, results_end - results, out.result_rows);
    first = end;
    results = results_end;
  }
  return out;
}

}  // namespace mlxr
