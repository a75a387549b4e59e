#include "core/kernels/cpu/attention_kernels.h"
#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/attention.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/attention_spans-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

void attend_target(const AttentionCall& call, const AttentionTask& task, int64_t first_span,
                   int64_t last_span, float* partials, AttentionScratch& scratch) {
  Rows rows(call, task, scratch);
  prepare_rows(rows);
  const int64_t floats = partial_floats(rows.count, rows.dim);
  if (partials != nullptr) {
    for (int64_t span = first_span; span < last_span; ++span) {
      attend_span(rows, partial_at(partials + (span - first_span) * floats, rows.count), span);
    }
    return;
  }
  float* memory = scratch.partials.at_least(static_cast<size_t>(2 * floats));
  const Partial total = partial_at(memory, rows.count);
  const Partial part = partial_at(memory + floats, rows.count);
  attend_span(rows, total, first_span);
  for (int64_t span = first_span + 1; span < last_span; ++span) {
    attend_span(rows, part, span);
    merge(total, part, rows.count, rows.padded);
  }
  write_rows(call, task, total, rows.group, rows.padded);
}

void merge_spans_target(const AttentionCall& call, const AttentionTask& task, int64_t spans,
                        float* partials) {
  const int64_t group = call.params.heads / call.layer.kv_heads, rows = task.tokens * group;
  const int64_t dim = call.layer.head_dim, padded = (dim + kLanes - 1) / kLanes * kLanes;
  const Partial total = partial_at(partials, rows);
  for (int64_t span = 1; span < spans; ++span) {
    merge(total, partial_at(partials + span * partial_floats(rows, dim), rows), rows, padded);
  }
  write_rows(call, task, total, group, padded);
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(attend_target);
HWY_EXPORT(merge_spans_target);

void attend(const AttentionCall& call, const AttentionTask& task, int64_t first_span,
            int64_t last_span, float* partials, AttentionScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(attend_target)(call, task, first_span, last_span, partials, scratch);
}

void merge_spans(const AttentionCall& call, const AttentionTask& task, int64_t spans,
                 float* partials) {
  HWY_DYNAMIC_DISPATCH(merge_spans_target)(call, task, spans, partials);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
