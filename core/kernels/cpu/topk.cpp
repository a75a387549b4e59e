#include "core/kernels/cpu/topk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "core/kernels/cpu/simd_level.h"

#ifndef MLXR_TOPK_ONCE
#define MLXR_TOPK_ONCE
namespace mlxr::cpu {
// Indices that a scan found, and where it stopped.
struct TopkScan {
  static constexpr int64_t kRoom = 512;
  int32_t ids[kRoom];
  int64_t found = 0;
  int64_t next = 0;
};
}  // namespace mlxr::cpu
#endif  // MLXR_TOPK_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/topk.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors that are tested together: one branch for all.
constexpr int64_t kStride = 4;

// The larger in each lane. A comparison, not hn::Max, which takes a NaN on some targets.
template <class V>
HWY_INLINE V larger(const float* x, V most) {
  const auto v = hn::LoadU(hn::DFromV<V>(), x);
  return hn::IfThenElse(hn::Gt(v, most), v, most);
}

float largest_target(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + kStride * lanes <= n; i += kStride * lanes) {
    a = larger(x + i, a);
    b = larger(x + i + lanes, b);
    c = larger(x + i + 2 * lanes, c);
    e = larger(x + i + 3 * lanes, e);
  }
  for (; i + lanes <= n; i += lanes) a = larger(x + i, a);
  float most = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(a, b), hn::Max(c, e))));
  for (; i < n; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// Cuts x into groups of `size` elements (kStride * lanes groups take a stretch of it in turns) and
// writes each group's largest; returns how many. What is left at the end has no group.
int64_t group_maxima_target(const float* x, int64_t n, int64_t size, float* out) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = kStride * lanes;
  int64_t groups = 0;
  for (; n >= size * width; n -= size * width) {
    auto a = hn::Set(d, -std::numeric_limits<float>::infinity());
    auto b = a, c = a, e = a;
    for (int64_t i = 0; i < size; ++i, x += width) {
      a = larger(x, a);
      b = larger(x + lanes, b);
      c = larger(x + 2 * lanes, c);
      e = larger(x + 3 * lanes, e);
    }
    hn::StoreU(a, d, out);
    hn::StoreU(b, d, out + lanes);
    hn::StoreU(c, d, out + 2 * lanes);
    hn::StoreU(e, d, out + 3 * lanes);
    out += width;
    groups += width;
  }
  return groups;
}

bool has_nan_target(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    if (!hn::AllTrue(d, hn::Eq(v, v))) return true;
  }
  for (; i < n; ++i) {
    if (x[i] != x[i]) return true;
  }
  return false;
}

// Adds every i in [scan.next, n) with x[i] > floor, until there is no more room.
void scan_above_target(const float* x, int64_t n, float floor, TopkScan& scan) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto least = hn::Set(d, floor);
  // A compressing store may write a whole vector.
  const int64_t full = TopkScan::kRoom - (kStride + 1) * lanes;
  int64_t i = scan.next, found = 0;
  for (; i + kStride * lanes <= n && found <= full; i += kStride * lanes) {
    const auto above = [&](int64_t v)
                           HWY_ATTR { return hn::Gt(hn::LoadU(d, x + i + v * lanes), least); };
    const auto any = hn::Or(hn::Or(above(0), above(1)), hn::Or(above(2), above(3)));
    if (hn::AllFalse(d, any)) continue;
    for (int64_t v = 0; v < kStride; ++v) {
      const auto ids = hn::Iota(di, static_cast<int32_t>(i + v * lanes));
      found += static_cast<int64_t>(
          hn::CompressStore(ids, hn::RebindMask(di, above(v)), di, scan.ids + found));
    }
  }
  for (; i < n && i + kStride * lanes > n && found < TopkScan::kRoom; ++i) {
    if (x[i] > floor) scan.ids[found++] = static_cast<int32_t>(i);
  }
  scan.next = i;
  scan.found = found;
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(largest_target);
HWY_EXPORT(group_maxima_target);
HWY_EXPORT(has_nan_target);
HWY_EXPORT(scan_above_target);

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A number that orders (value, index) as the contract does: the larger key is the better one.
uint64_t key_of(float value, int64_t id) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 becomes 0
  const uint32_t rising = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{rising} << 32 | ~static_cast<uint32_t>(id);
}

int32_t id_of(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

// Keeps the best k of more than k keys; the last of them stands at the end.
void keep_best(std::vector<uint64_t>& keys, size_t k) {
  const auto end = keys.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(keys.begin(), end - 1, keys.end(), std::greater<>());
  keys.erase(end, keys.end());
}

// A number that at least k of x are greater than: of groups' largest, the k-th. Of a random row 1.2
// times k are. -infinity when it is not worth its pass over x, or there is none.
float below_best(std::span<const float> x, int32_t k) {
  const auto n = static_cast<int64_t>(x.size());
  const int64_t size = n / (int64_t{k} * 4);
  if (size < 16) return -kInfinity;
  thread_local std::vector<float> maxima;
  maxima.resize(static_cast<size_t>(n / size));
  const int64_t groups =
      HWY_DYNAMIC_DISPATCH(group_maxima_target)(x.data(), n, size, maxima.data());
  if (groups < k) return -kInfinity;
  const auto kth = maxima.begin() + k - 1;
  std::nth_element(maxima.begin(), kth, maxima.begin() + groups, std::greater<>());
  return std::nextafter(*kth, -kInfinity);
}

}  // namespace

float largest(std::span<const float> x) {
  select_simd_level();
  return HWY_DYNAMIC_DISPATCH(largest_target)(x.data(), static_cast<int64_t>(x.size()));
}

bool has_nan(std::span<const float> x) {
  select_simd_level();
  return HWY_DYNAMIC_DISPATCH(has_nan_target)(x.data(), static_cast<int64_t>(x.size()));
}

int32_t argmax(std::span<const float> x) {
  // The block that first holds the largest, while it is in the nearest cache.
  constexpr size_t kBlock = 2048;
  size_t best = 0;
  float most = -kInfinity;
  for (size_t at = 0; at < x.size(); at += kBlock) {
    const float here = largest(x.subspan(at, std::min(kBlock, x.size() - at)));
    if (here > most) {
      most = here;
      best = at;
    }
  }
  const auto found = std::find(x.begin() + static_cast<std::ptrdiff_t>(best), x.end(), most);
  return found == x.end() ? -1 : static_cast<int32_t>(found - x.begin());
}

void top_k(std::span<const float> x, int32_t k, std::vector<TopLogit>& out) {
  out.clear();
  if (k <= 0) return;
  select_simd_level();
  thread_local std::vector<uint64_t> keys;
  keys.clear();
  const auto n = static_cast<int64_t>(x.size());
  const auto count = static_cast<size_t>(k), most = count + 2 * std::max<size_t>(count, 32);
  const auto value = [&](int64_t id) { return x[static_cast<size_t>(id)]; };
  TopkScan scan;
  float floor = below_best(x, k);
  if (floor == -kInfinity) {  // begin with any k
    for (; scan.next < n && keys.size() < count; ++scan.next) {
      if (!std::isnan(value(scan.next))) keys.push_back(key_of(value(scan.next), scan.next));
    }
    if (!keys.empty()) floor = value(id_of(*std::min_element(keys.begin(), keys.end())));
  }
  while (scan.next < n) {
    HWY_DYNAMIC_DISPATCH(scan_above_target)(x.data(), n, floor, scan);
    for (int64_t i = 0; i < scan.found; ++i) {
      keys.push_back(key_of(value(scan.ids[i]), scan.ids[i]));
    }
    if (keys.size() >= most) {
      keep_best(keys, count);
      floor = value(id_of(keys.back()));
    }
  }
  if (keys.size() > count) keep_best(keys, count);
  std::sort(keys.begin(), keys.end(), std::greater<>());
  for (uint64_t key : keys) out.push_back({id_of(key), value(id_of(key))});
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
