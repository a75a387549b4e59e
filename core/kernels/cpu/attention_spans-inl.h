// Walks the tiles of spans for the queries of one task, merges spans, writes results. Included once
// per target.

#if defined(MLXR_ATTENTION_SPANS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_ATTENTION_SPANS_INL_H
#undef MLXR_ATTENTION_SPANS_INL_H
#else
#define MLXR_ATTENTION_SPANS_INL_H
#endif

#include "core/kernels/cpu/attention_kernels.h"
#include "core/kernels/cpu/attention_tile-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Up to twice as many rows read stored numbers directly, kDirectRows at once: to widen them in
// registers, even twice, costs less than a trip through scratch (7 rows, dim 64: 22 us, not 28).
inline constexpr int kDirectRows = 4;

inline constexpr float kLog2e = 1.4426950408889634f;

// A task's rows (token-major, then heads of the group) and the scratch that they use.
struct Rows {
  Rows(const AttentionCall& c, const AttentionTask& t, AttentionScratch& s)
      : call(c), task(t), scratch(s), keys(c.layer, true, t), values(c.layer, false, t) {
    group = call.params.heads / call.layer.kv_heads;
    dim = call.layer.head_dim;
    padded = (dim + kLanes - 1) / kLanes * kLanes;
    count = task.tokens * group;
  }

  // The tokens of a tile that a row sees; empty when last <= first.
  HWY_INLINE Range seen(int64_t row, int64_t tile) const {
    const int64_t position = last_seen[row] - tile * kTile;
    const int64_t window = call.params.window;
    return {window > 0 ? std::max<int64_t>(0, position - window + 1) : 0,
            std::min(kTile, position + 1)};
  }

  const AttentionCall& call;
  const AttentionTask& task;
  AttentionScratch& scratch;
  HeadBlocks keys, values;
  int64_t group, dim, padded, count;
  float cap = 0;  // scores arrive divided by the soft cap; this is it times log2(e). 0: none
  const float* q = nullptr;            // [rows, dim], scaled
  const int32_t* last_seen = nullptr;  // [rows] a position: the row's own where it is causal
  float* scores = nullptr;             // [rows, tile]
  float* weights = nullptr;     // of some rows, times the values' scales: [groups, tile] each
  float* sums = nullptr;        // [rows, lanes]
  float* new_max = nullptr;     // [rows]
  float* correction = nullptr;  // [rows]
};

// Queries in powers of two: exp(x) = 2^(x log2 e), so the factor is folded into them once.
inline void prepare_rows(Rows& rows) {
  const AttentionParams& params = rows.call.params;
  const auto count = static_cast<size_t>(rows.count);
  const size_t lane_rows = (count + 31) / 16 * 16;  // vectors may start at any row
  float* q = rows.scratch.q.at_least(count * static_cast<size_t>(rows.dim));
  int32_t* last_seen = rows.scratch.positions.at_least(count);
  rows.scores = rows.scratch.scores.at_least(count * static_cast<size_t>(kTile));
  if (kv_has_scales(rows.call.layer.type)) {
    constexpr int kMost = std::max(kRows, kDirectRows);
    const auto groups = static_cast<size_t>(kv_groups(rows.dim));
    rows.weights = rows.scratch.weights.at_least(groups * static_cast<size_t>(kMost * kTile));
  }
  rows.sums = rows.scratch.sums.at_least(count * static_cast<size_t>(kLanes));
  rows.new_max = rows.scratch.maxima.at_least(2 * lane_rows);
  rows.correction = rows.new_max + lane_rows;
  rows.cap = params.soft_cap * kLog2e;
  const float base = params.soft_cap > 0 ? params.scale / params.soft_cap : params.scale * kLog2e;
  const float factor = base * kv_unit(rows.call.layer.type);
  for (int64_t t = 0; t < rows.task.tokens; ++t) {
    const float* from = rows.task.q + t * rows.call.stride;
    for (int64_t i = 0; i < rows.group * rows.dim; ++i) *q++ = from[i] * factor;
    for (int64_t g = 0; g < rows.group; ++g) {
      *last_seen++ =
          static_cast<int32_t>(params.causal ? rows.task.position + t : rows.task.last_seen);
    }
  }
  rows.q = q - rows.count * rows.dim;
  rows.last_seen = last_seen - rows.count;
}

// Rows [0, count) in equal steps of at most kMost: 7 rows as 4 and 3 rather than 6 and 1.
template <int kMost>
HWY_INLINE int64_t row_step(int64_t count) {
  const int64_t steps = (count + kMost - 1) / kMost;
  return (count + steps - 1) / steps;
}

// Scores of rows [begin, end), which all see some of the tile.
template <int kMost, class Keys>
HWY_INLINE void score_all(const Rows& rows, const Keys& keys, int64_t tile, int64_t begin,
                          int64_t end) {
  const int64_t step = row_step<kMost>(end - begin);
  for (int64_t r = begin; r < end; r += step) {
    const int64_t n = std::min(step, end - r);
    // Later rows see later tokens: these are all that any row of this group sees.
    const int64_t first = rows.seen(r, tile).first / kLanes;
    const int64_t last = (rows.seen(r + n - 1, tile).last + kLanes - 1) / kLanes;
    with_rows<kMost>(n, [&]<int R>() HWY_ATTR {
      score_rows<R>(rows.q + r * rows.dim, rows.dim, keys, first, last, rows.scores + r * kTile);
    });
  }
}

// One online softmax update of rows [begin, end).
inline void soften(const Rows& rows, const Partial& out, int64_t tile, int64_t begin, int64_t end) {
  const D d;
  for (int64_t r = begin; r < end; ++r) {
    const Range seen = rows.seen(r, tile);
    float* scores = rows.scores + r * kTile;
    if (rows.cap > 0) cap_scores(scores, seen, rows.cap);
    rows.new_max[r] = std::max(out.max[r], hide_unseen(scores, seen));
  }
  for (int64_t r = begin; r < end; r += kLanes) {
    const V change = hn::Sub(hn::LoadU(d, out.max + r), hn::LoadU(d, rows.new_max + r));
    hn::StoreU(exp2_of(change), d, rows.correction + r);
  }
  for (int64_t r = begin; r < end; ++r) {
    weigh(rows.scores + r * kTile, rows.seen(r, tile), rows.new_max[r], rows.correction[r],
          rows.sums + r * kLanes);
    shrink(out.acc + r * rows.padded, rows.padded, rows.correction[r]);
    out.max[r] = rows.new_max[r];
  }
}

// Weighted values of rows [begin, end). Tokens that all rows of a group see are added to them
// together; the rest, at the edges of what is seen, row by row, before or after: in order.
template <int kMost, class Values>
HWY_INLINE void add_all(const Rows& rows, const Partial& out, const Values& values, int64_t tile,
                        int64_t begin, int64_t end) {
  const int64_t columns = rows.padded / kLanes, groups = kv_groups(rows.dim);
  const int64_t stride = Values::kHasScales ? groups * kTile : kTile;  // between rows of weights
  const int64_t step = row_step<kMost>(end - begin);
  for (int64_t r = begin; r < end; r += step) {
    const int64_t n = std::min(step, end - r);
    const float* weights = rows.scores + r * kTile;
    if constexpr (Values::kHasScales) {
      for (int64_t i = 0; i < n; ++i) {
        scale_weights(weights + i * kTile, rows.seen(r + i, tile), values.scales(), groups,
                      rows.weights + i * stride);
      }
      weights = rows.weights;
    }
    const auto add_one = [&](int64_t row, Range tokens) HWY_ATTR {
      if (tokens.first >= tokens.last) return;
      add_rows<1>(weights + (row - r) * stride, stride, values, tokens, 0, columns,
                  out.acc + row * rows.padded, rows.padded);
    };
    const Range common{rows.seen(r + n - 1, tile).first, rows.seen(r, tile).last};
    if (common.first >= common.last) {
      for (int64_t i = r; i < r + n; ++i) add_one(i, rows.seen(i, tile));
      continue;
    }
    for (int64_t i = r; i < r + n; ++i) add_one(i, {rows.seen(i, tile).first, common.first});
    with_rows<kMost>(n, [&]<int R>() HWY_ATTR {
      add_rows<R>(weights, stride, values, common, 0, columns, out.acc + r * rows.padded,
                  rows.padded);
    });
    for (int64_t i = r; i < r + n; ++i) add_one(i, {common.last, rows.seen(i, tile).last});
  }
}

template <KvType kType>
HWY_NOINLINE void attend_tile(const Rows& rows, const Partial& out, int64_t tile) {
  const AttentionTask& task = rows.task;
  const int64_t window = rows.call.params.window, offset = tile * kTile - task.position;
  // Rows that see any of this tile, and what the first and last of them see.
  const int64_t begin = rows.call.params.causal ? std::max<int64_t>(0, offset) * rows.group : 0;
  int64_t end = rows.count;
  if (window > 0) end = std::min(end, (offset + kTile - 1 + window) * rows.group);
  const Range any{rows.seen(begin, tile).first, rows.seen(end - 1, tile).last};

  const auto groups = static_cast<size_t>(kv_groups(rows.dim));
  float* scales = rows.scratch.scales.at_least(groups * static_cast<size_t>(kTile));
  const StoredKeys<kType> keys(tile_regions(rows.keys, tile, any.first, any.last),
                               next_regions(rows.keys, tile), rows.dim, scales);
  const bool direct = end - begin <= 2 * kDirectRows && rows.dim == rows.padded;
  if (direct) {
    score_all<kDirectRows>(rows, keys, tile, begin, end);
  } else {
    float* panel = rows.scratch.keys.at_least(static_cast<size_t>(rows.dim * kTile));
    widen_keys(keys, rows.dim, any.first / kLanes, (any.last + kLanes - 1) / kLanes, panel);
    score_all<kRows>(rows, Panel<kv_has_scales(kType)>{panel, kTile, scales}, tile, begin, end);
  }
  soften(rows, out, tile, begin, end);
  const StoredValues<kType> values(tile_regions(rows.values, tile, any.first, any.last),
                                   next_regions(rows.values, tile), rows.dim, scales);
  if (direct) {
    add_all<kDirectRows>(rows, out, values, tile, begin, end);
  } else {
    float* panel = rows.scratch.values.at_least(static_cast<size_t>(rows.padded * kTile));
    widen_values(values, rows.dim, any.first, any.last, rows.padded, panel);
    add_all<kRows>(rows, out, Panel<kv_has_scales(kType)>{panel, rows.padded, scales}, tile, begin,
                   end);
  }
}

// One span's result for every row. A row that sees none of it keeps a maximum of -infinity.
inline void attend_span(const Rows& rows, const Partial& out, int64_t span) {
  const D d;
  std::fill_n(out.max, rows.count, kLowest);
  std::fill_n(rows.sums, rows.count * kLanes, 0.0f);
  std::fill_n(out.acc, rows.count * rows.padded, 0.0f);
  constexpr int64_t kTiles = kAttentionSpan / kTile;
  const int64_t first = std::max(span * kTiles, first_seen(rows.call, rows.task) / kTile);
  const int64_t last = std::min((span + 1) * kTiles, rows.task.last_seen / kTile + 1);
  visit_kv_type(rows.call.layer.type, [&]<KvType kType>() HWY_ATTR {
    for (int64_t tile = first; tile < last; ++tile) attend_tile<kType>(rows, out, tile);
  });
  for (int64_t r = 0; r < rows.count; ++r) {
    out.sum[r] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, rows.sums + r * kLanes)));
  }
}

// total = total and part, which follows it.
inline void merge(const Partial& total, const Partial& part, int64_t rows, int64_t padded) {
  const D d;
  for (int64_t r = 0; r < rows; ++r) {
    if (part.max[r] == kLowest) continue;
    const float max = std::max(total.max[r], part.max[r]);
    // A total that is still empty has a factor and values of 0.
    const float old = exp2_of(total.max[r] - max), fresh = exp2_of(part.max[r] - max);
    total.max[r] = max;
    total.sum[r] = total.sum[r] * old + part.sum[r] * fresh;
    for (int64_t i = r * padded; i < (r + 1) * padded; i += kLanes) {
      const V added = hn::Mul(hn::Load(d, part.acc + i), hn::Set(d, fresh));
      hn::Store(hn::MulAdd(hn::Load(d, total.acc + i), hn::Set(d, old), added), d, total.acc + i);
    }
  }
}

// Divides by the softmax's sum, to which a head's sink adds its own term.
inline void write_rows(const AttentionCall& call, const AttentionTask& task, const Partial& total,
                       int64_t group, int64_t padded) {
  const D d;
  const int64_t dim = call.layer.head_dim;
  for (int64_t r = 0; r < task.tokens * group; ++r) {
    float factor = 1, sum = total.sum[r];
    if (call.params.sinks != nullptr) {
      const float sink = call.params.sinks[task.kv_head * group + r % group] * kLog2e;
      const float max = std::max(total.max[r], sink);
      factor = exp2_of(total.max[r] - max);
      sum = sum * factor + exp2_of(sink - max);
    }
    // No sum: every score was -infinity.
    factor = sum > 0 ? factor / sum * kv_unit(call.layer.type) : 0.0f;
    const float* acc = total.acc + r * padded;
    float* out = task.out + r / group * call.stride + r % group * dim;
    int64_t i = 0;
    for (; i + kLanes <= dim; i += kLanes) {
      hn::StoreU(hn::Mul(hn::Load(d, acc + i), hn::Set(d, factor)), d, out + i);
    }
    for (; i < dim; ++i) out[i] = acc[i] * factor;
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
