// Which thread attends to what: tasks of a few query tokens and one KV head, cut at spans where
// there are too few of them for the threads. None of it changes a result (attention.h).
#include "core/base/thread_pool.h"
#include "core/kernels/cpu/attention_kernels.h"
#include "core/kernels/cpu/simd_level.h"

namespace mlxr::cpu {
namespace {

using Unit = AttentionWorkspace::Unit;

// Query rows that share a widened tile: enough to make its widening cheap (192 rows are 2.5 %
// faster than 96, and 384 hardly more), few enough that their accumulators stay in the second-level
// cache and that every thread has something to do.
constexpr int64_t kMostRows = 192, kLeastRows = 48;

// Work (see `cost`) below which waking other threads costs more than they save.
constexpr int64_t kWorthWaking = 1 << 19;

// Row-tokens, and as much as a few rows for reading the tokens, times head_dim.
int64_t cost(const AttentionCall& call, const Unit& unit) {
  const int64_t group = call.params.heads / call.layer.kv_heads;
  const int64_t seen = unit.task.last_seen + 1 - first_seen(call, unit.task);
  return (unit.task.tokens * group + 4) * seen * call.layer.head_dim;
}

// Query tokens of a task.
int64_t chunk_tokens(const AttentionCall& call, std::span<const AttentionSequence> sequences,
                     int threads) {
  const int64_t group = call.params.heads / call.layer.kv_heads;
  for (int64_t rows = kMostRows;; rows /= 2) {
    const int64_t chunk = std::max<int64_t>(1, rows / group);
    int64_t tasks = 0;
    for (const AttentionSequence& sequence : sequences) {
      tasks += (sequence.count + chunk - 1) / chunk * call.layer.kv_heads;
    }
    if (rows <= kLeastRows || threads == 1 || tasks >= 4 * threads) return chunk;
  }
}

// Later tokens first: they see more, and what starts last should be short.
int64_t add_units(const AttentionCall& call, const AttentionSequence& sequence, int64_t chunk,
                  const float* q, float* out, std::vector<Unit>& units) {
  const int64_t group = call.params.heads / call.layer.kv_heads;
  int64_t total = 0;
  for (int64_t begin = (sequence.count - 1) / chunk * chunk; begin >= 0; begin -= chunk) {
    for (int32_t h = 0; h < call.layer.kv_heads; ++h) {
      const int64_t at = (sequence.first + begin) * call.stride + h * group * call.layer.head_dim;
      const int64_t end =
          call.params.causal ? std::min(begin + chunk, int64_t{sequence.count}) : sequence.count;
      Unit unit;
      unit.task = {.q = q + at,
                   .out = out + at,
                   .blocks = sequence.blocks,
                   .position = sequence.position + begin,
                   .last_seen = sequence.position + end - 1,
                   .tokens = static_cast<int32_t>(std::min(chunk, sequence.count - begin)),
                   .kv_head = h};
      unit.first_span = first_seen(call, unit.task) / kAttentionSpan;
      unit.last_span = unit.task.last_seen / kAttentionSpan + 1;
      total += cost(call, unit);
      units.push_back(unit);
    }
  }
  return total;
}

// Cuts the unit into pieces that cost about `most`; returns the floats of partial results that it
// needs.
int64_t add_pieces(const AttentionCall& call, int64_t index, int64_t most, int64_t partials,
                   AttentionWorkspace& workspace) {
  Unit& unit = workspace.units[static_cast<size_t>(index)];
  const int64_t spans = unit.last_span - unit.first_span;
  const int64_t pieces = std::min(spans, (cost(call, unit) + most - 1) / most);
  const int64_t step = (spans + pieces - 1) / pieces;
  for (int64_t span = unit.first_span; span < unit.last_span; span += step) {
    workspace.pieces.push_back(
        {static_cast<int32_t>(index), span, std::min(span + step, unit.last_span)});
  }
  if (step == spans) return 0;
  unit.partials = partials;
  workspace.spans_left[static_cast<size_t>(index)].store(static_cast<int32_t>(spans),
                                                         std::memory_order_relaxed);
  const int64_t rows = unit.task.tokens * (call.params.heads / call.layer.kv_heads);
  return spans * partial_floats(rows, call.layer.head_dim);
}

void run_piece(const AttentionCall& call, const AttentionWorkspace::Piece& piece, float* partials,
               AttentionWorkspace& workspace, AttentionScratch& scratch) {
  const auto index = static_cast<size_t>(piece.unit);
  const Unit& unit = workspace.units[index];
  if (unit.partials < 0) {
    attend(call, unit.task, piece.first_span, piece.last_span, nullptr, scratch);
    return;
  }
  const int64_t rows = unit.task.tokens * (call.params.heads / call.layer.kv_heads);
  const int64_t floats = partial_floats(rows, call.layer.head_dim);
  float* first = partials + unit.partials;
  attend(call, unit.task, piece.first_span, piece.last_span,
         first + (piece.first_span - unit.first_span) * floats, scratch);
  // Whoever finishes a unit's last span merges them all.
  const auto done = static_cast<int32_t>(piece.last_span - piece.first_span);
  if (workspace.spans_left[index].fetch_sub(done, std::memory_order_acq_rel) == done) {
    merge_spans(call, unit.task, unit.last_span - unit.first_span, first);
  }
}

}  // namespace

void attention(const KvLayerRef& layer, const AttentionParams& params,
               std::span<const AttentionSequence> sequences, const float* q, int64_t stride,
               float* out, ThreadPool& pool, AttentionWorkspace& workspace) {
  select_simd_level();
  const AttentionCall call{layer, params, stride};
  workspace.units.clear();
  workspace.pieces.clear();
  workspace.scratch.resize(std::max(workspace.scratch.size(), static_cast<size_t>(pool.size())));
  const int64_t chunk = chunk_tokens(call, sequences, pool.size());
  int64_t total = 0;
  for (const AttentionSequence& sequence : sequences) {
    total += add_units(call, sequence, chunk, q, out, workspace.units);
  }
  if (workspace.spans_left_size < workspace.units.size()) {
    workspace.spans_left_size = workspace.units.size();
    workspace.spans_left = std::make_unique<std::atomic<int32_t>[]>(workspace.spans_left_size);
  }
  const bool alone = pool.size() == 1 || total < kWorthWaking;
  const int64_t most = alone ? total + 1 : total / (3 * pool.size()) + 1;
  int64_t partials = 0;
  for (size_t i = 0; i < workspace.units.size(); ++i) {
    partials += add_pieces(call, static_cast<int64_t>(i), most, partials, workspace);
  }
  float* memory = workspace.partials.at_least(static_cast<size_t>(partials));
  const auto pieces = static_cast<int64_t>(workspace.pieces.size());
  const auto run = [&](int64_t first, int64_t last, int worker) {
    for (int64_t i = first; i < last; ++i) {
      run_piece(call, workspace.pieces[static_cast<size_t>(i)], memory, workspace,
                workspace.scratch[static_cast<size_t>(worker)]);
    }
  };
  if (alone) {
    run(0, pieces, 0);
  } else {
    pool.parallel_for(pieces, 1, std::ref(run));
  }
}

}  // namespace mlxr::cpu
