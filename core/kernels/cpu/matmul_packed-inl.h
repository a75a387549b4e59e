// Products of interleaved matrices (packed_layout.h): a group of sixteen rows against a few columns
// as it lies, or unpacked to a panel for many. Included once per target.

#if defined(MLXR_MATMUL_PACKED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_MATMUL_PACKED_INL_H
#undef MLXR_MATMUL_PACKED_INL_H
#else
#define MLXR_MATMUL_PACKED_INL_H
#endif

#include "core/kernels/cpu/packed_tables-inl.h"
#include "core/kernels/cpu/panel_gemm-inl.h"

#if MLXR_PACKED_PATH
MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

static_assert(kRowTile == 2 * kGroupRows, "a tile is two groups");

// Columns whose accumulators fit the registers beside a group's words.
inline constexpr int kDotColumns = 4;
// From this many columns on, two groups are walked together where the registers hold them: a word
// of activations, which costs two cycles to spread over 64 bytes, then serves two products. Eight
// columns in two such passes, against one pass of one group by eight (Zen 4, one thread): Q4_0 1.14
// times the speed, Q4_K and Q6_K 1.08.
inline constexpr int kPairedColumns = kParts == 1 ? 3 : kDotColumns + 1;
// Above this many, a panel that is unpacked once costs less than unpacking for each tile. Zen 4,
// two threads, a whole step of Llama-1B against the panel: Q4_K_M 1.11 times the speed at 17
// columns, 1.07 to 1.11 at 24, 1.02 at 32, 0.94 at 48; Q8_0 1.21, 1.26, 1.07 and 1.03.
inline constexpr int64_t kMaxDotColumns = kParts == 1 ? 32 : 8;
static_assert(kMaxDotColumns <= kMostDotColumns, "tests take more columns than that for a panel");

// Where the G groups that are walked together stand: the chunk of each, and its span's scales.
template <int G>
struct GroupChunks {
  const uint8_t* words[G];
  const float *d[G], *m[G];
};

// Words first .. first + words of a chunk: one sub-block of C columns.
template <class F, int first, int words, int C, int G>
HWY_INLINE void dot_sub_block(const GroupChunks<G>& at, const Columns& tile, int64_t sub,
                              VF (&acc)[C][G * kParts]) {
  constexpr int P = G * kParts;
  const DI di;
  const DF df;
  VI sums[C][P];
  for (int c = 0; c < C; ++c) {
    for (int p = 0; p < P; ++p) {
      sums[c][p] =
          F::kOffset == 0 ? hn::Zero(di) : hn::Set(di, -F::kOffset * tile.sums[sub * C + c]);
    }
  }
  dot_words<typename F::DotKind, first, words, C, P>(
      [&](int g, int p) HWY_ATTR { return F::word(at.words[p / kParts], g, p % kParts); }, tile.q,
      sums);
  constexpr int kScales = first == 0 ? 0 : kGroupRows;
  for (int p = 0; p < P; ++p) {
    const int64_t lane = kScales + kLanes * (p % kParts);
    const VF scale = hn::LoadU(df, at.d[p / kParts] + lane);
    for (int c = 0; c < C; ++c) {
      acc[c][p] =
          accumulate<F, C>(df, acc[c][p], sums[c][p], scale, at.m[p / kParts] + lane, tile, sub, c);
    }
  }
}

// Walks a group span by span: head() and body() of the current one.
template <class F>
class GroupCursor {
 public:
  HWY_INLINE GroupCursor(const MatrixRef& w, const uint8_t* group)
      : layout_(packed_layout(w)), steps_(layout_.span / F::kSpan), body_(group) {
    open_batch();
  }
  HWY_INLINE const uint8_t* head() const { return head_; }
  HWY_INLINE const uint8_t* body() const { return body_; }
  // To the next F::kSpan columns. MLX's groups are walked in several steps with one head.
  HWY_INLINE void advance() {
    body_ += F::kPrefix + F::kSpan / 32 * 64 * F::kBits;
    if (F::kManySteps && ++step_ < steps_) return;
    step_ = 0;
    head_ += layout_.head;
    if (--left_ == 0) open_batch();
  }

 private:
  HWY_INLINE void open_batch() {
    head_ = body_;
    body_ += layout_.batch_head_bytes();
    left_ = layout_.batch_spans();
  }
  const PackedLayout layout_;
  const int64_t steps_;
  const uint8_t* body_;
  const uint8_t* head_ = nullptr;
  int64_t left_ = 0, step_ = 0;
};

// G groups against C columns: out[c * kRowTile + row]. Asks for the weights `ahead` bytes on,
// unless it is 0.
template <class F, int C, int G>
HWY_NOINLINE void dot_groups(const MatrixRef& w, const uint8_t* group, Columns tile, int64_t ahead,
                             float* out) {
  constexpr int kSubs = F::kSpan / F::kSub;
  constexpr int kChunk = 64 * F::kBits;
  constexpr int P = G * kParts;
  const DF df;
  VF acc[C][P];
  for (int c = 0; c < C; ++c) {
    for (int p = 0; p < P; ++p) acc[c][p] = hn::Zero(df);
  }
  alignas(64) float d[G][kSubs * kGroupRows], m[G][kSubs * kGroupRows];
  const int64_t group_bytes = G == 1 ? 0 : packed_layout(w).group_bytes(w.cols);
  GroupCursor<F> cursor(w, group);
  int64_t sub = 0;
  for (int64_t column = 0; column < w.cols; column += F::kSpan, cursor.advance()) {
    GroupChunks<G> at;
    for (int i = 0; i < G; ++i) {
      const uint8_t *head = cursor.head() + i * group_bytes,
                    *body = cursor.body() + i * group_bytes;
      for (int p = 0; p < kParts; ++p) {
        F::scales(w, head, body, p, d[i] + kLanes * p, m[i] + kLanes * p);
      }
      at.words[i] = body + F::kPrefix;
      at.d[i] = d[i];
      at.m[i] = m[i];
    }
    for (int j = 0; j < F::kSpan / 32; ++j) {
      if (ahead > 0) {
        for (int i = 0; i < G; ++i) prefetch_lines(at.words[i] + ahead, kChunk / 64);
      }
      if constexpr (F::kSub == 32) {
        dot_sub_block<F, 0, 8, C, G>(at, tile, sub++, acc);
      } else {
        dot_sub_block<F, 0, 4, C, G>(at, tile, sub++, acc);
        dot_sub_block<F, 4, 4, C, G>(at, tile, sub++, acc);
      }
      tile.q += 32 * C;
      for (int i = 0; i < G; ++i) {
        at.words[i] += kChunk;
        at.d[i] += 32 / F::kSub * kGroupRows;
        at.m[i] += 32 / F::kSub * kGroupRows;
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    for (int p = 0; p < P; ++p) hn::StoreU(acc[c][p], df, out + c * kRowTile + kLanes * p);
  }
}

// Computes one group, or the two that are left of a tile; says how many.
template <class F, int C = kDotColumns>
HWY_INLINE int64_t dot_groups_n(int n, int64_t groups, const MatrixRef& w, const uint8_t* group,
                                Columns tile, int64_t ahead, float* out) {
  if constexpr (C > 0) {
    if (n != C) return dot_groups_n<F, C - 1>(n, groups, w, group, tile, ahead, out);
    if constexpr (C >= kPairedColumns) {
      if (groups == 2) {
        dot_groups<F, C, 2>(w, group, tile, ahead, out);
        return 2;
      }
    }
    dot_groups<F, C, 1>(w, group, tile, ahead, out);
  }
  return 1;
}

template <class F>
void packed_dot_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end,
                     const ActivationView& x, float* out, int64_t out_stride) {
  alignas(64) float result[kDotColumns * kRowTile];
  const int64_t group_bytes = packed_layout(w).group_bytes(w.cols), ahead = weight_prefetch();
  int64_t groups = 0;
  for (int64_t row = row_begin; row < row_end; row += groups * kGroupRows) {
    const int64_t first = row % kRowTile / kGroupRows;
    const uint8_t* tile_data = w.data + row / kRowTile * w.tile_stride + first * group_bytes;
    const int64_t count = std::min((2 - first) * kGroupRows, row_end - row);
    groups = (count + kGroupRows - 1) / kGroupRows;
    for (int64_t c = 0; c < x.columns; c += kDotColumns) {
      const Columns tile = tile_at<F::kSub>(*x.quantized, c);
      const int n = static_cast<int>(std::min<int64_t>(kDotColumns, x.columns - c));
      for (int64_t g = 0; g < groups;) {
        g += dot_groups_n<F>(n, groups - g, w, tile_data + g * group_bytes, tile, ahead,
                             result + g * kGroupRows);
      }
      for (int i = 0; i < n; ++i) {
        std::copy_n(result + i * kRowTile, count, out + (c + i) * out_stride + row - row_begin);
      }
    }
  }
}

template <class F>
void unpack_group(const MatrixRef& w, const uint8_t* group, uint8_t* q, float* d, float* m) {
  constexpr int kSubs = F::kSpan / F::kSub;
  GroupCursor<F> at(w, group);
  for (int64_t column = 0; column < w.cols; column += F::kSpan, at.advance()) {
    for (int p = 0; p < kParts; ++p) {
      F::scales(w, at.head(), at.body(), p, d + kLanes * p, F::kHasMin ? m + kLanes * p : nullptr);
    }
    d += kSubs * kGroupRows;
    if (F::kHasMin) m += kSubs * kGroupRows;
    const uint8_t* chunk = at.body() + F::kPrefix;
    for (int j = 0; j < F::kSpan / 32; ++j, chunk += 64 * F::kBits, q += 512) {
      HWY_UNROLL(8)
      for (int g = 0; g < 8; ++g) {
        for (int p = 0; p < kParts; ++p) {
          hn::StoreU(F::word(chunk, g, p), DB(), q + 64 * g + kVecBytes * p);
        }
      }
    }
  }
}

template <class F>
void packed_panel_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end,
                       const ActivationView& x, float* out, int64_t out_stride,
                       MatmulScratch& scratch) {
  const PanelRoom<F> room(scratch, x.k);
  const int64_t group_bytes = packed_layout(w).group_bytes(w.cols);
  for (int64_t row = row_begin; row < row_end; row += kRowTile) {
    const int64_t rows = std::min<int64_t>(kRowTile, row_end - row);
    for (int64_t g = 0; g * kGroupRows < rows; ++g) {
      const uint8_t* group = w.data + row / kRowTile * w.tile_stride + g * group_bytes;
      unpack_group<F>(w, group, room.q_of(g), room.scales_of(g), room.mins_of(g));
    }
    const bool last = row + kRowTile >= row_end;
    const std::span next(w.data + (row / kRowTile + 1) * w.tile_stride,
                         last ? 0 : static_cast<size_t>(w.tile_stride));
    panel_gemm<F>(room, rows, x, next, out + row - row_begin, out_stride);
  }
}

void packed_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                 float* out, int64_t out_stride, MatmulScratch& scratch) {
  visit_packed(w, [&](auto format) {
    using F = decltype(format);
    if (x.columns <= kMaxDotColumns) {
      packed_dot_rows<F>(w, row_begin, row_end, x, out, out_stride);
    } else {
      packed_panel_rows<F>(w, row_begin, row_end, x, out, out_stride, scratch);
    }
  });
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // MLXR_PACKED_PATH
#endif  // include guard
