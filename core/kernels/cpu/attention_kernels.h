// Between the schedule of attention (which thread walks which spans) and its kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/cpu/attention.h"

namespace mlxr::cpu {

struct AttentionCall {
  KvLayerRef layer;
  AttentionParams params;
  int64_t stride = 0;  // floats a token of q and out
};

// The first position that any query of the task sees.
inline int64_t first_seen(const AttentionCall& call, const AttentionTask& task) {
  const int64_t window = call.params.window;
  return window > 0 ? std::max<int64_t>(0, task.position - window + 1) : 0;
}

// What the rows of a task make of one or more spans: exponents are powers of two.
struct Partial {
  float* max;  // [rows]
  float* sum;  // [rows]
  float* acc;  // [rows, head_dim in whole vectors]
};

// Room for the rows' maxima and sums, in whole cache lines and one to spare for vectors that start
// at any row; then for acc.
constexpr int64_t partial_header(int64_t rows) { return (rows + 31) / 16 * 16; }
constexpr int64_t partial_floats(int64_t rows, int64_t head_dim) {
  return 2 * partial_header(rows) + rows * ((head_dim + 15) / 16 * 16);
}
inline Partial partial_at(float* memory, int64_t rows) {
  const int64_t header = partial_header(rows);
  return {memory, memory + header, memory + 2 * header};
}

// The task's results over spans [first, last): one after another at `partials`, or, where that is
// null and these are all spans that it sees, merged and written to task.out.
void attend(const AttentionCall& call, const AttentionTask& task, int64_t first_span,
            int64_t last_span, float* partials, AttentionScratch& scratch);

// Merges `spans` results in order, using their memory, and writes task.out.
void merge_spans(const AttentionCall& call, const AttentionTask& task, int64_t spans,
                 float* partials);

}  // namespace mlxr::cpu
