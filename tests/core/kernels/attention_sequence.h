// One sequence in a KV arena of its own, and what its stored numbers mean: for tests of attention
// and of the KV store.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/float16.h"
#include "core/base/thread_pool.h"
#include "core/kernels/cpu/attention.h"
#include "core/kernels/cpu/kv_store.h"

namespace mlxr::testing {

using Floats = std::vector<float>;

struct AttentionCase {
  int32_t kv_heads = 2, group = 1, dim = 64;
  int64_t tokens = 70;
  int32_t block_tokens = 32;
  KvType type = KvType::kF32;
  int32_t window = 0;
  float soft_cap = 0;
  bool sinks = false;
  float scale = 0.125f;
  bool causal = true;

  int32_t heads() const { return kv_heads * group; }
  int64_t width() const { return int64_t{heads()} * dim; }
  int64_t kv_width() const { return int64_t{kv_heads} * dim; }
};

inline std::string describe(const AttentionCase& c) {
  std::ostringstream out;
  out << "kv_heads " << c.kv_heads << " group " << c.group << " dim " << c.dim << " tokens "
      << c.tokens << " block " << c.block_tokens << " " << kv_type_name(c.type) << " window "
      << c.window << " cap " << c.soft_cap << (c.sinks ? " sinks" : "")
      << (c.causal ? "" : " both ways");
  return out.str();
}

inline Floats random_floats(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Floats out(static_cast<size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

// What one block of a head's stored numbers mean, read plainly, one by one.
inline double stored_number(const cpu::KvLayerRef& layer, const uint8_t* region, bool key,
                            int64_t token, int64_t dim) {
  const int64_t tokens = layer.block_tokens, groups = cpu::kv_groups(layer.head_dim);
  const int64_t at = key ? dim * tokens + token : token * layer.head_dim + dim;
  const int64_t group = dim / 32;
  const auto u16 = [&](int64_t byte) {
    uint16_t bits = 0;
    std::memcpy(&bits, region + byte, 2);
    return bits;
  };
  const auto scale = [&] {
    const int64_t numbers = cpu::kv_number_bytes(layer.type, layer.head_dim) * tokens;
    return f16_to_f32(u16(numbers + (group * tokens + token) * 2));
  };
  switch (layer.type) {
    case KvType::kF32: {
      float x = 0;
      std::memcpy(&x, region + at * 4, 4);
      return x;
    }
    case KvType::kF16:
      return f16_to_f32(u16(at * 2));
    case KvType::kBF16:
      return bf16_to_f32(u16(at * 2));
    case KvType::kQ8_0:
      return double{scale()} * static_cast<int8_t>(region[at]);
    case KvType::kQ4_0: {
      const int64_t row = group * 16 + dim % 16;
      const uint8_t byte = region[key ? row * tokens + token : token * groups * 16 + row];
      return double{scale()} * ((dim % 32 < 16 ? byte & 15 : byte >> 4) - 8);
    }
    case KvType::kF8E4M3: {
      const int exponent = region[at] >> 3 & 15, mantissa = region[at] & 7;
      if (exponent == 15 && mantissa == 7) return NAN;
      const double size =
          exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
      return region[at] & 0x80 ? -size : size;
    }
  }
  return NAN;
}

// One sequence in an arena of its own, its blocks scattered, stale bytes of 0xff (NaN) in between.
class Sequence {
 public:
  explicit Sequence(const AttentionCase& c, uint32_t seed = 1)
      : c_(c),
        q(random_floats(c.tokens * c.width(), seed)),
        k(random_floats(c.tokens * c.kv_width(), seed + 1)),
        v(random_floats(c.tokens * c.kv_width(), seed + 2)),
        sinks(random_floats(c.heads(), seed + 3)) {
    const auto blocks = static_cast<int32_t>((c.tokens + c.block_tokens - 1) / c.block_tokens);
    layer = {
        .type = c.type, .kv_heads = c.kv_heads, .head_dim = c.dim, .block_tokens = c.block_tokens};
    for (int32_t i = 0; i < blocks; ++i) table.push_back(2 * (blocks - 1 - i) + 1);
    const auto bytes = static_cast<size_t>(layer.region_offset(2 * blocks + 1, 0));
    keys_.assign(bytes, 0xff);
    values_.assign(bytes, 0xff);
    layer.k = keys_.data();
    layer.v = values_.data();
    for (int64_t t = 0; t < c.tokens; ++t) {
      cpu::kv_store(layer, block(t), static_cast<int32_t>(t % c.block_tokens),
                    k.data() + t * c.kv_width(), v.data() + t * c.kv_width());
    }
  }

  int32_t block(int64_t t) const { return table[static_cast<size_t>(t / c_.block_tokens)]; }

  cpu::AttentionParams params() const {
    return {.heads = c_.heads(),
            .scale = c_.scale,
            .window = c_.window,
            .soft_cap = c_.soft_cap,
            .causal = c_.causal,
            .sinks = c_.sinks ? sinks.data() : nullptr};
  }

  double number(bool key, int64_t t, int32_t kv_head, int64_t dim) const {
    const uint8_t* region = key ? layer.keys(block(t), kv_head) : layer.values(block(t), kv_head);
    return stored_number(layer, region, key, t % c_.block_tokens, dim);
  }

  // Queries [first, first + count) in one call.
  Floats attend(int64_t first, int64_t count, ThreadPool& pool) const {
    Floats out(static_cast<size_t>(count * c_.width()), NAN);
    const cpu::AttentionSequence sequence{
        .count = static_cast<int32_t>(count), .position = first, .blocks = table.data()};
    cpu::AttentionWorkspace workspace;
    cpu::attention(layer, params(), {&sequence, 1}, q.data() + first * c_.width(), c_.width(),
                   out.data(), pool, workspace);
    return out;
  }

  // The whole sequence, `chunk` queries a call.
  Floats attend_all(int64_t chunk, ThreadPool& pool) const {
    Floats all;
    for (int64_t t = 0; t < c_.tokens; t += chunk) {
      const Floats part = attend(t, std::min(chunk, c_.tokens - t), pool);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

 private:
  AttentionCase c_;
  std::vector<uint8_t> keys_, values_;

 public:
  Floats q, k, v, sinks;
  cpu::KvLayerRef layer;
  std::vector<int32_t> table;
};

}  // namespace mlxr::testing
