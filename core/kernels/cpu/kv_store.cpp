#include "core/kernels/cpu/kv_store.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/float16.h"
#include "core/kernels/cpu/simd_level.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/kv_store.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using V = hn::Vec<D>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// Up to 32 neighbouring dimensions of one token, encoded.
struct Group {
  alignas(64) uint8_t numbers[kKvGroup * 4];
  uint16_t scale = 0;  // float16
};

HWY_INLINE auto is_number(V v) {
  return hn::Le(hn::Abs(v), hn::Set(D(), std::numeric_limits<float>::max()));
}

HWY_INLINE void encode_f16(const float* x, Group& out) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  // The emulation does not round to nearest.
  for (int64_t i = 0; i < kKvGroup; ++i) {
    const uint16_t half =
        f32_to_f16(std::isfinite(x[i]) ? std::clamp(x[i], -65504.0f, 65504.0f) : x[i]);
    std::memcpy(out.numbers + i * 2, &half, 2);
  }
#else
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const V most = hn::Set(d, 65504.0f);
  for (int64_t i = 0; i < kKvGroup; i += kLanes) {
    const V v = hn::Load(d, x + i);
    const V bounded = hn::Min(hn::Max(v, hn::Neg(most)), most);
    const V kept = hn::IfThenElse(is_number(v), bounded, v);
    hn::StoreU(hn::DemoteTo(d16, kept), d16, reinterpret_cast<hwy::float16_t*>(out.numbers) + i);
  }
#endif
}

// Highway's own conversion cuts off.
HWY_INLINE void encode_bf16(const float* x, Group& out) {
  const D d;
  const DI di;
  const DU du;
  const hn::Rebind<uint16_t, D> d16;
  for (int64_t i = 0; i < kKvGroup; i += kLanes) {
    const auto bits = hn::BitCast(du, hn::Load(d, x + i));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
    const auto nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
    const auto is_nan =
        hn::Gt(hn::BitCast(di, hn::And(bits, hn::Set(du, 0x7fffffff))), hn::Set(di, 0x7f800000));
    const auto out32 = hn::IfThenElse(is_nan, hn::BitCast(di, nan), hn::BitCast(di, rounded));
    hn::StoreU(hn::DemoteTo(d16, out32), d16, reinterpret_cast<uint16_t*>(out.numbers) + i);
  }
}

HWY_INLINE void encode_f8(const float* x, Group& out) {
  const D d;
  const DI di;
  const DU du;
  const hn::Rebind<uint8_t, D> d8;
  for (int64_t i = 0; i < kKvGroup; i += kLanes) {
    const V v = hn::Load(d, x + i);
    const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(du, v)), hn::Set(du, 0x80));
    const V size = hn::Min(hn::Abs(v), hn::Set(d, 448.0f));
    const auto bits = hn::BitCast(du, size);
    // Normal: the mantissa rounded to 3 bits, the exponent's bias 127 changed to 7.
    const auto odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1));
    const auto rounded = hn::ShiftRight<20>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7ffff))));
    const auto normal = hn::Sub(rounded, hn::Set(du, 120 << 3));
    // Subnormal, a multiple of 2^-9: adding 2^14 leaves it, rounded, in the low bits.
    const auto shifted = hn::BitCast(du, hn::Add(size, hn::Set(d, 16384.0f)));
    const auto small = hn::Sub(shifted, hn::Set(du, 0x46800000));
    const auto is_small = hn::RebindMask(du, hn::Lt(size, hn::Set(d, 0x1p-6f)));
    const auto number = hn::Or(sign, hn::IfThenElse(is_small, small, normal));
    const auto code = hn::IfThenElse(hn::RebindMask(du, is_number(v)), number, hn::Set(du, 0x7f));
    hn::StoreU(hn::DemoteTo(d8, hn::BitCast(di, code)), d8, out.numbers + i);
  }
}

// The greatest and least of a group, both NaN if it holds what is no number.
struct Extent {
  float least, most;
};
HWY_INLINE Extent extent(const float* x) {
  const D d;
  const DI di;
  V least = hn::Load(d, x), most = least;
  // Infinity and NaN are the greatest integers.
  auto largest = hn::BitCast(di, hn::Abs(least));
  for (int64_t i = kLanes; i < kKvGroup; i += kLanes) {
    const V v = hn::Load(d, x + i);
    least = hn::Min(least, v);
    most = hn::Max(most, v);
    largest = hn::Max(largest, hn::BitCast(di, hn::Abs(v)));
  }
  if (hn::GetLane(hn::MaxOfLanes(di, largest)) >= 0x7f800000) {
    return {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::quiet_NaN()};
  }
  return {hn::GetLane(hn::MinOfLanes(d, least)), hn::GetLane(hn::MaxOfLanes(d, most))};
}

// Keeps `scale` as float16 and returns the inverse of what is kept: numbers are rounded for the
// scale that they will be read with. A NaN is kept.
HWY_INLINE float keep_scale(float scale, Group& out) {
  out.scale = f32_to_f16(std::isnan(scale) ? scale : std::clamp(scale, -65504.0f, 65504.0f));
  const float kept = f16_to_f32(out.scale);
  return kept == 0 || std::isnan(kept) ? 0.0f : 1.0f / kept;
}

HWY_INLINE void encode_q8(const float* x, Group& out) {
  const D d;
  const DI di;
  const hn::Rebind<int8_t, D> d8;
  const Extent e = extent(x);
  const V inverse = hn::Set(d, keep_scale(std::max(-e.least, e.most) / 127.0f, out));
  for (int64_t i = 0; i < kKvGroup; i += kLanes) {
    const auto q = hn::NearestInt(hn::Mul(hn::Load(d, x + i), inverse));
    const auto clamped = hn::Min(hn::Max(q, hn::Set(di, -127)), hn::Set(di, 127));
    hn::StoreU(hn::DemoteTo(d8, clamped), d8, reinterpret_cast<int8_t*>(out.numbers) + i);
  }
}

// The extreme of either sign becomes -8, so that all 16 codes are used.
HWY_INLINE void encode_q4(const float* x, Group& out) {
  const D d;
  const DI di;
  const hn::Rebind<uint8_t, D> d8;
  const Extent e = extent(x);
  const float extreme = -e.least > e.most ? e.least : e.most;
  const V inverse = hn::Set(d, keep_scale(extreme / -8.0f, out));
  const auto code = [&](int64_t i) HWY_ATTR {
    const auto q = hn::Add(hn::NearestInt(hn::Mul(hn::Load(d, x + i), inverse)), hn::Set(di, 8));
    return hn::Min(hn::Max(q, hn::Zero(di)), hn::Set(di, 15));
  };
  for (int64_t i = 0; i < kKvGroup / 2; i += kLanes) {
    const auto both = hn::Or(code(i), hn::ShiftLeft<4>(code(i + kKvGroup / 2)));
    hn::StoreU(hn::DemoteTo(d8, both), d8, out.numbers + i);
  }
}

template <KvType kType>
HWY_INLINE void encode(const float* x, Group& out) {
  if constexpr (kType == KvType::kF32) std::memcpy(out.numbers, x, kKvGroup * 4);
  if constexpr (kType == KvType::kF16) encode_f16(x, out);
  if constexpr (kType == KvType::kBF16) encode_bf16(x, out);
  if constexpr (kType == KvType::kF8E4M3) encode_f8(x, out);
  if constexpr (kType == KvType::kQ8_0) encode_q8(x, out);
  if constexpr (kType == KvType::kQ4_0) encode_q4(x, out);
}

// Number i of `from` to to[i * stride].
template <class T>
HWY_INLINE void scatter(const uint8_t* from, int64_t n, uint8_t* to, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(to + i * stride * static_cast<int64_t>(sizeof(T)),
                from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

// One head's key or value, at `slot` of its region.
template <KvType kType, bool kKey>
void store_head(const KvLayerRef& layer, int64_t slot, const float* x, uint8_t* region) {
  using T = std::conditional_t<
      kType == KvType::kF32, uint32_t,
      std::conditional_t<kType == KvType::kF16 || kType == KvType::kBF16, uint16_t, uint8_t>>;
  const int64_t dim = layer.head_dim, tokens = layer.block_tokens, groups = kv_groups(dim);
  uint8_t* scales = region + kv_number_bytes(kType, dim) * tokens;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t left = std::min(kKvGroup, dim - g * kKvGroup);
    alignas(64) float padded[kKvGroup] = {};
    std::copy_n(x + g * kKvGroup, left, padded);
    Group group;
    encode<kType>(padded, group);
    const int64_t n = kType == KvType::kQ4_0 ? kKvGroup / 2 : left;  // numbers of type T
    const int64_t first = g * (kType == KvType::kQ4_0 ? kKvGroup / 2 : kKvGroup);
    constexpr auto kWidth = static_cast<int64_t>(sizeof(T));
    if constexpr (kKey) {
      scatter<T>(group.numbers, n, region + (first * tokens + slot) * kWidth, tokens);
    } else {
      std::memcpy(region + slot * kv_number_bytes(kType, dim) + first * kWidth, group.numbers,
                  static_cast<size_t>(n * kWidth));
    }
    if constexpr (kv_has_scales(kType)) {
      std::memcpy(scales + (g * tokens + slot) * 2, &group.scale, 2);
    }
  }
}

template <KvType kType>
void store_token(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
                 const float* value) {
  for (int32_t h = 0; h < layer.kv_heads; ++h) {
    const int64_t at = int64_t{h} * layer.head_dim;
    store_head<kType, true>(layer, slot, key + at, layer.keys(block, h));
    store_head<kType, false>(layer, slot, value + at, layer.values(block, h));
  }
}

void kv_store_target(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
                     const float* value) {
  visit_kv_type(layer.type, [&]<KvType kType>()
                                HWY_ATTR { store_token<kType>(layer, block, slot, key, value); });
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(kv_store_target);

void kv_store(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
              const float* value) {
  select_simd_level();
  HWY_DYNAMIC_DISPATCH(kv_store_target)(layer, block, slot, key, value);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
