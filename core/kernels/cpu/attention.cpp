#include "core/kernels/cpu/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/base/float16.h"
#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/attention.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
// Vectors of at most 16 floats: a block holds 16 or 32 tokens, a whole number of them.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// `n` stored values, a whole number of vectors or padded to one in `to`.
void widen(const void* from, bool f16, int64_t n, float* to) {
  const D d;
  if (!f16) {
    std::memcpy(to, from, static_cast<size_t>(n) * 4);
    return;
  }
  const hn::Rebind<hwy::float16_t, D> d16;
  const auto* half = static_cast<const hwy::float16_t*>(from);
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, half + i)), d, to + i);
  for (; i < n; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, half + i, 2);
    to[i] = f16_to_f32(bits);
  }
}

// scores[query][token] = scale * dot(q, k): kT is [head_dim, block_tokens].
template <int Q>
HWY_INLINE void score_queries(const float* const* q, const float* kt, int64_t head_dim,
                              int64_t block_tokens, float scale, float* scores) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < block_tokens; t += lanes) {
    V acc[Q];
    for (int i = 0; i < Q; ++i) acc[i] = hn::Zero(d);
    for (int64_t j = 0; j < head_dim; ++j) {
      const V keys = hn::LoadU(d, kt + j * block_tokens + t);
      for (int i = 0; i < Q; ++i) acc[i] = hn::MulAdd(hn::Set(d, q[i][j]), keys, acc[i]);
    }
    for (int i = 0; i < Q; ++i) {
      hn::StoreU(hn::Mul(acc[i], hn::Set(d, scale)), d, scores + i * block_tokens + t);
    }
  }
}

struct Block {
  const float* k;       // [head_dim, block_tokens]
  const float* v;       // [block_tokens, padded_dim]
  int64_t first, last;  // tokens of this block that the query sees: [first, last)
};

// One online softmax update of a query by a block.
HWY_INLINE void update(const Block& block, int64_t block_tokens, int64_t padded_dim, float* scores,
                       float* acc, float& max, float& sum) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float lowest = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + block.first, lowest);
  std::fill(scores + block.last, scores + block_tokens, lowest);
  V most = hn::Set(d, max);
  for (int64_t t = 0; t < block_tokens; t += lanes) {
    most = hn::Max(most, hn::LoadU(d, scores + t));
  }
  const float new_max = hn::GetLane(hn::MaxOfLanes(d, most));
  const V shift = hn::Set(d, new_max);
  V total = hn::Zero(d);
  for (int64_t t = 0; t < block_tokens; t += lanes) {
    const V x = hn::Sub(hn::LoadU(d, scores + t), shift);
    // Exp of -infinity is not defined by the library: masked lanes are zeroed by hand.
    const V e = hn::IfThenElseZero(hn::Gt(x, hn::Set(d, -1e4f)), hn::Exp(d, x));
    hn::StoreU(e, d, scores + t);
    total = hn::Add(total, e);
  }
  const float correction =
      max == lowest ? 0.0f : hn::GetLane(hn::Exp(d, hn::Set(d, std::max(max - new_max, -1e4f))));
  sum = sum * correction + hn::GetLane(hn::SumOfLanes(d, total));
  max = new_max;
  const V c = hn::Set(d, correction);
  for (int64_t i = 0; i < padded_dim; i += lanes) {
    V a = hn::Mul(hn::LoadU(d, acc + i), c);
    for (int64_t t = block.first; t < block.last; ++t) {
      a = hn::MulAdd(hn::Set(d, scores[t]), hn::LoadU(d, block.v + t * padded_dim + i), a);
    }
    hn::StoreU(a, d, acc + i);
  }
}

void attention_target(const KvLayerRef& layer, const AttentionParams& params, int32_t kv_head,
                      const float* q, int64_t stride, int32_t tokens, int64_t position,
                      std::span<const int32_t> blocks, float* out, AttentionScratch& s) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t dim = layer.head_dim, bt = layer.block_tokens;
  const int64_t padded = (dim + lanes - 1) / lanes * lanes;
  const int64_t group = params.heads / layer.kv_heads;
  const int64_t queries = tokens * group;
  s.k.resize(static_cast<size_t>(dim * bt));
  s.v.assign(static_cast<size_t>(padded * bt), 0.0f);
  s.scores.resize(static_cast<size_t>(queries * bt));
  s.acc.assign(static_cast<size_t>(queries * padded), 0.0f);
  s.max.assign(static_cast<size_t>(queries), -std::numeric_limits<float>::infinity());
  s.sum.assign(static_cast<size_t>(queries), 0.0f);
  const auto query = [&](int64_t i) {
    return q + (i / group) * stride + (kv_head * group + i % group) * dim;
  };

  const int64_t width = layer.f16 ? 2 : 4;
  const int64_t last_position = position + tokens - 1;
  const int64_t first_seen =
      params.window > 0 ? std::max<int64_t>(0, position - params.window + 1) : 0;
  for (int64_t b = first_seen / bt; b <= last_position / bt; ++b) {
    const int64_t at =
        (static_cast<int64_t>(blocks[static_cast<size_t>(b)]) * layer.kv_heads + kv_head) * bt *
        dim;
    widen(static_cast<const char*>(layer.k) + at * width, layer.f16, bt * dim, s.k.data());
    for (int64_t t = 0; t < std::min(bt, last_position + 1 - b * bt); ++t) {
      widen(static_cast<const char*>(layer.v) + (at + t * dim) * width, layer.f16, dim,
            s.v.data() + t * padded);
    }
    for (int64_t i = 0; i < queries; i += 4) {
      const int64_t n = std::min<int64_t>(4, queries - i);
      const float* rows[4] = {query(i), query(i + std::min<int64_t>(1, n - 1)),
                              query(i + std::min<int64_t>(2, n - 1)), query(i + n - 1)};
      float* scores = s.scores.data() + i * bt;
      if (n == 4) {
        score_queries<4>(rows, s.k.data(), dim, bt, params.scale, scores);
      } else {
        for (int64_t j = 0; j < n; ++j) {
          score_queries<1>(rows + j, s.k.data(), dim, bt, params.scale, scores + j * bt);
        }
      }
    }
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t p = position + i / group;
      Block block{s.k.data(), s.v.data(), 0, std::min(bt, p + 1 - b * bt)};
      if (params.window > 0) block.first = std::max<int64_t>(0, p - params.window + 1 - b * bt);
      if (block.first >= block.last) continue;
      const auto at_i = static_cast<size_t>(i);
      update(block, bt, padded, s.scores.data() + i * bt, s.acc.data() + i * padded, s.max[at_i],
             s.sum[at_i]);
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    float* to = out + (i / group) * stride + (kv_head * group + i % group) * dim;
    const float scale = 1.0f / s.sum[static_cast<size_t>(i)];
    for (int64_t j = 0; j < dim; ++j) to[j] = s.acc[static_cast<size_t>(i * padded + j)] * scale;
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {
namespace {

template <class T, class Convert>
void store_token(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
                 const float* value, Convert convert) {
  const int64_t dim = layer.head_dim, bt = layer.block_tokens;
  for (int64_t h = 0; h < layer.kv_heads; ++h) {
    const int64_t at = (static_cast<int64_t>(block) * layer.kv_heads + h) * bt * dim;
    T* k = static_cast<T*>(layer.k) + at + slot;
    T* v = static_cast<T*>(layer.v) + at + slot * dim;
    for (int64_t i = 0; i < dim; ++i) {
      k[i * bt] = convert(key[h * dim + i]);
      v[i] = convert(value[h * dim + i]);
    }
  }
}

}  // namespace

HWY_EXPORT(attention_target);

void kv_store(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
              const float* value) {
  if (layer.f16) {
    store_token<uint16_t>(layer, block, slot, key, value, f32_to_f16);
  } else {
    store_token<float>(layer, block, slot, key, value, [](float x) { return x; });
  }
}

void attention(const KvLayerRef& layer, const AttentionParams& params, int32_t kv_head,
               const float* q, int64_t stride, int32_t tokens, int64_t position,
               std::span<const int32_t> blocks, float* out, AttentionScratch& scratch) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(attention_target)
  (layer, params, kv_head, q, stride, tokens, position, blocks, out, scratch);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
