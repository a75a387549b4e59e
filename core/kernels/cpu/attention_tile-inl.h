// The arithmetic of one attention tile: scores, one online softmax update, weighted values. Every
// kernel takes any number of query rows R and of vectors N: they choose how many rows share a
// loaded vector and never the order in which a row is summed. Included once per target.

#if defined(MLXR_ATTENTION_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXR_ATTENTION_TILE_INL_H
#undef MLXR_ATTENTION_TILE_INL_H
#else
#define MLXR_ATTENTION_TILE_INL_H
#endif

#include <limits>

#include "core/kernels/cpu/kv_load-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Accumulators that fit the register file beside their operands.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr int kAccumulators = 24;
#else
inline constexpr int kAccumulators = 12;
#endif
inline constexpr int kRows = 6;  // query rows that share a vector of keys or values, at most

// Vectors beside each other for R rows: the largest power of two that fits.
constexpr int vectors_for(int rows, int most) {
  int n = most;
  while (n > 1 && n * rows > kAccumulators) n /= 2;
  return n;
}

// Tokens of a tile.
struct Range {
  int64_t first, last;
};

// 2^x for x <= 0; 0 below -125, for -infinity and for NaN. The fraction is exact (x less its
// nearest integer); a minimax polynomial of degree 6 with p(0) = 1, error 2.6e-9 before rounding.
HWY_INLINE V exp2_of(V x) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const V magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: x's integer lands in the low bits
  const V shifted = hn::Add(x, magic);
  const V r = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::Set(d, 0.00015594677824992687f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.0013406643411144614f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.009617692790925503f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.055503103882074356f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.24022652208805084f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.6931472420692444f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  const V y = hn::BitCast(d, hn::Add(hn::BitCast(du, p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -125.0f)), y);
}

HWY_INLINE float exp2_of(float x) { return hn::GetLane(exp2_of(hn::Set(D(), x))); }

inline constexpr int64_t kGroupColumns = kKvGroup / kLanes;  // vectors of a group's dimensions

// acc[r][n] += sum over k of rows[r][k] * matrix(k, column + n), one chain each. With kByGroup a
// row holds a line of `kTile` for each group of columns.
template <bool kByGroup, int R, int N, class Matrix>
HWY_INLINE void multiply_add_some(const float* HWY_RESTRICT rows, int64_t row_stride,
                                  const Matrix& matrix, int64_t column, Range k, V (&acc)[R][N]) {
  const D d;
  constexpr int kSame = kByGroup && kGroupColumns < N ? static_cast<int>(kGroupColumns) : N;
  if constexpr (kByGroup) rows += column / kGroupColumns * kTile;
  for (int64_t i = k.first; i < k.last; ++i) {
    V m[N];
    HWY_UNROLL(8)
    for (int n = 0; n < N; ++n) m[n] = matrix.load(i, column + n);
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int g = 0; g < N / kSame; ++g) {
        const V x = hn::Set(d, rows[r * row_stride + g * kTile + i]);
        HWY_UNROLL(8)
        for (int n = g * kSame; n < (g + 1) * kSame; ++n) {
          acc[r][n] = hn::MulAdd(x, m[n], acc[r][n]);
        }
      }
    }
  }
}

template <bool kByGroup, int R, int N, class Matrix>
HWY_INLINE void multiply_add(const float* HWY_RESTRICT rows, int64_t row_stride,
                             const Matrix& matrix, int64_t column, Range k, V (&acc)[R][N]) {
  if constexpr (Matrix::kPrefetchRows == 0) {
    multiply_add_some<kByGroup>(rows, row_stride, matrix, column, k, acc);
  } else {
    // The inner loop stays free of branches: with prefetches in it, it lost a tenth.
    while (k.first < k.last) {
      if (column == 0) matrix.prefetch(k.first);
      const int64_t end = k.first / Matrix::kPrefetchRows * Matrix::kPrefetchRows;
      const int64_t stop = std::min(k.last, end + Matrix::kPrefetchRows);
      multiply_add_some<kByGroup>(rows, row_stride, matrix, column, {k.first, stop}, acc);
      k.first = stop;
    }
  }
}

// scores[r][column * kLanes...] = q[r] . keys, N columns. A group's scale is applied to its sum.
template <int R, int N, class Keys>
HWY_NOINLINE void score_columns(const float* q, int64_t dim, const Keys& keys, int64_t column,
                                float* scores) {
  const D d;
  const int64_t step = Keys::kHasScales ? kKvGroup : dim;
  for (int64_t first = 0; first < dim; first += step) {
    V acc[R][N];
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int n = 0; n < N; ++n) acc[r][n] = hn::Zero(d);
    }
    multiply_add<false>(q, dim, keys, column, {first, std::min(dim, first + step)}, acc);
    HWY_UNROLL(8)
    for (int n = 0; n < N; ++n) {
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) {
        float* to = scores + r * kTile + (column + n) * kLanes;
        if constexpr (Keys::kHasScales) {
          const V before = first == 0 ? hn::Zero(d) : hn::Load(d, to);
          hn::Store(hn::MulAdd(acc[r][n], keys.scale(first / kKvGroup, column + n), before), d, to);
        } else {
          hn::Store(acc[r][n], d, to);
        }
      }
    }
  }
}

// acc[r][column * kLanes...] += sum over tokens of weights[r][t] * values[t], N columns. Weights
// are [rows, tile]; of values with scales, multiplied by them, [rows, groups, tile].
template <int R, int N, class Values>
HWY_NOINLINE void add_columns(const float* weights, int64_t weight_stride, const Values& values,
                              Range tokens, int64_t column, float* acc, int64_t stride) {
  const D d;
  V sum[R][N];
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int n = 0; n < N; ++n) sum[r][n] = hn::Load(d, acc + r * stride + (column + n) * kLanes);
  }
  multiply_add<Values::kHasScales>(weights, weight_stride, values, column, tokens, sum);
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int n = 0; n < N; ++n) hn::Store(sum[r][n], d, acc + r * stride + (column + n) * kLanes);
  }
}

// Columns [first, last), as many at once as R rows leave registers for.
template <int R, int N = vectors_for(R, kTile / kLanes < 8 ? kTile / kLanes : 8), class Keys>
HWY_INLINE void score_rows(const float* q, int64_t dim, const Keys& keys, int64_t first,
                           int64_t last, float* scores) {
  for (; first + N <= last; first += N) score_columns<R, N>(q, dim, keys, first, scores);
  if constexpr (N > 1) {
    if (first < last) score_rows<R, N / 2>(q, dim, keys, first, last, scores);
  }
}
template <int R, int N = vectors_for(R, 8), class Values>
HWY_INLINE void add_rows(const float* weights, int64_t weight_stride, const Values& values,
                         Range tokens, int64_t first, int64_t last, float* acc, int64_t stride) {
  for (; first + N <= last; first += N) {
    add_columns<R, N>(weights, weight_stride, values, tokens, first, acc, stride);
  }
  if constexpr (N > 1) {
    if (first < last) {
      add_rows<R, N / 2>(weights, weight_stride, values, tokens, first, last, acc, stride);
    }
  }
}

// Calls body<R>() for R = rows, 1 to kMost.
template <int kMost, class Body>
HWY_INLINE void with_rows(int64_t rows, const Body& body) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return with_rows<kMost - 1>(rows, body);
  }
  body.template operator()<kMost>();
}

// scores = cap * tanh(scores), for the vectors that hold `seen`. Not inlined: g++ 12 at -O3 loses
// the whole transformation where a masked choice follows it (AVX-512).
HWY_NOINLINE void cap_scores(float* scores, Range seen, float cap) {
  const D d;
  const V one = hn::Set(d, 1.0f), scale = hn::Set(d, cap);
  const V twice = hn::Set(d, -2.8853900817779268f);  // -2 log2(e)
  for (int64_t t = seen.first / kLanes * kLanes; t < seen.last; t += kLanes) {
    const V x = hn::Load(d, scores + t);
    const V e = exp2_of(hn::Mul(hn::Abs(x), twice));
    const V tanh = hn::Div(hn::Sub(one, e), hn::Add(one, e));
    hn::Store(hn::Mul(hn::CopySignToAbs(tanh, x), scale), d, scores + t);
  }
}

// Hides the scores outside `seen` within its vectors, and returns the greatest.
HWY_INLINE float hide_unseen(float* scores, Range seen) {
  const D d;
  V most = hn::Set(d, kLowest);
  for (int64_t t = seen.first / kLanes * kLanes; t < seen.last; t += kLanes) {
    V s = hn::Load(d, scores + t);
    if (t < seen.first || t + kLanes > seen.last) {
      const V index = hn::Iota(d, static_cast<float>(t));
      const auto hidden = hn::Or(hn::Lt(index, hn::Set(d, static_cast<float>(seen.first))),
                                 hn::Ge(index, hn::Set(d, static_cast<float>(seen.last))));
      s = hn::IfThenElse(hidden, hn::Set(d, kLowest), s);
      hn::Store(s, d, scores + t);
    }
    most = hn::Max(most, s);
  }
  return hn::GetLane(hn::MaxOfLanes(d, most));
}

// Scores to weights; their sum is added to the lanes of `sums`, which shrinks by `correction`.
HWY_INLINE void weigh(float* scores, Range seen, float max, float correction, float* sums) {
  const D d;
  const V shift = hn::Set(d, max);
  V total = hn::Mul(hn::Load(d, sums), hn::Set(d, correction));
  for (int64_t t = seen.first / kLanes * kLanes; t < seen.last; t += kLanes) {
    const V e = exp2_of(hn::Sub(hn::Load(d, scores + t), shift));
    hn::Store(e, d, scores + t);
    total = hn::Add(total, e);
  }
  hn::Store(total, d, sums);
}

// The weights of one row times the scales of values: [groups, tile].
HWY_INLINE void scale_weights(const float* weights, Range seen, const float* scales, int64_t groups,
                              float* to) {
  const D d;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t t = seen.first / kLanes * kLanes; t < seen.last; t += kLanes) {
      const V scale = hn::Load(d, scales + g * kTile + t);
      hn::Store(hn::Mul(hn::Load(d, weights + t), scale), d, to + g * kTile + t);
    }
  }
}

// Shrinks an accumulator to a new maximum. An addition of 0 makes a -0 a 0, as products of hidden
// tokens would not.
HWY_INLINE void shrink(float* acc, int64_t n, float correction) {
  const D d;
  if (correction == 1.0f) return;
  for (int64_t i = 0; i < n; i += kLanes) {
    hn::Store(hn::MulAdd(hn::Load(d, acc + i), hn::Set(d, correction), hn::Zero(d)), d, acc + i);
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
