// Run-time dispatch of the matrix products; see matmul.h for the contract.
#include "core/kernels/cpu/matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "core/base/error.h"
#include "core/base/thread_pool.h"
#include "core/formats/weight_view.h"
#include "core/kernels/cpu/matmul_neon.h"
#include "core/kernels/cpu/simd_level.h"

#ifndef MLXR_MATMUL_ONCE
#define MLXR_MATMUL_ONCE
namespace mlxr::cpu {
// Where a tile of activations is written (activations.h).
struct Tile {
  int8_t* q;
  float* scales;
  int32_t* sum32;
  float* fsum32;
  int32_t* sum16;
  float* fsum16;
};
}  // namespace mlxr::cpu
#endif  // MLXR_MATMUL_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/cpu/matmul.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: included anew for each target.
#include "core/kernels/cpu/matmul_target-inl.h"

MLXR_BEFORE_NAMESPACE();
namespace mlxr::cpu::HWY_NAMESPACE {

// Block b of column c of a tile of `width`, which holds what is no number.
HWY_INLINE void spoil_block(int64_t b, int64_t width, int64_t c, const Tile& to) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  for (int64_t g = 0; g < 8; ++g) std::memset(to.q + ((8 * b + g) * width + c) * 4, 0, 4);
  for (int64_t half = 0; half < 2; ++half) {
    to.sum16[(2 * b + half) * width + c] = 0;
    to.fsum16[(2 * b + half) * width + c] = none;
  }
  to.sum32[b * width + c] = 0;
  to.scales[b * width + c] = to.fsum32[b * width + c] = none;
}

// Block b of column c of a tile of `width`: 32 floats to int8.
void quantize_block_target(const float* x, int64_t b, int64_t width, int64_t c, const Tile& to) {
  const hn::CappedTag<float, 8> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<int8_t, decltype(df)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  // Compared as integers, magnitudes keep their order, and infinity and NaN are above all numbers.
  auto largest = hn::Zero(di);
  for (int64_t i = 0; i < 32; i += lanes) {
    largest = hn::Max(largest, hn::BitCast(di, hn::Abs(hn::LoadU(df, x + i))));
  }
  const float most = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest)));
  if (!(most <= std::numeric_limits<float>::max())) return spoil_block(b, width, c, to);
  const float scale = most / 127.0f;
  const auto inverse = hn::Set(df, most > 0 ? 127.0f / most : 0.0f);
  alignas(32) int8_t q[32];
  int32_t sums[2];
  for (int half = 0; half < 2; ++half) {
    auto sum = hn::Zero(di);
    for (int64_t i = half * 16; i < half * 16 + 16; i += lanes) {
      const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(df, x + i), inverse));
      // Denormal inputs can make the inverse overflow; the contract is [-127, 127].
      const auto bounded = hn::Min(hn::Max(rounded, hn::Set(di, -127)), hn::Set(di, 127));
      sum = hn::Add(sum, bounded);
      hn::StoreU(hn::DemoteTo(d8, bounded), d8, q + i);
    }
    sums[half] = hn::GetLane(hn::SumOfLanes(di, sum));
    const int64_t at = (2 * b + half) * width + c;
    to.sum16[at] = sums[half];
    to.fsum16[at] = scale * static_cast<float>(sums[half]);
  }
  for (int64_t g = 0; g < 8; ++g) std::memcpy(to.q + ((8 * b + g) * width + c) * 4, q + 4 * g, 4);
  const int64_t at = b * width + c;
  to.scales[at] = scale;
  to.sum32[at] = sums[0] + sums[1];
  to.fsum32[at] = scale * static_cast<float>(to.sum32[at]);
}

// All `blocks` blocks of all columns of a tile.
void quantize_tile_target(const float* x, int64_t stride, int64_t blocks, int64_t width,
                          const Tile& to) {
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t b = 0; b < blocks; ++b) {
      quantize_block_target(x + c * stride + b * 32, b, width, c, to);
    }
  }
}

}  // namespace mlxr::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxr::cpu {

HWY_EXPORT(matmul_rows_target);
HWY_EXPORT(activation_tile_target);
HWY_EXPORT(quantize_tile_target);

namespace {

// The kernels of a level above NEON, where they are chosen at run time; else null.
const NeonKernels* beyond_neon() {
#if MLXR_NEON_DISPATCH
  static const NeonKernels* const chosen = [] {
    const std::string level = simd_level();
    if (level == "neon-i8mm") return &kNeonI8mm;
    return level == "neon-dotprod" ? &kNeonDotprod : nullptr;
  }();
  return chosen;
#else
  return nullptr;
#endif
}

}  // namespace

void matmul_rows(const MatrixRef& w, int64_t row_begin, int64_t row_end, const ActivationView& x,
                 float* out, int64_t out_stride, MatmulScratch& scratch) {
  select_simd_level();
  if (const NeonKernels* neon = beyond_neon()) {
    return neon->matmul_rows(w, row_begin, row_end, x, out, out_stride, scratch);
  }
  HWY_DYNAMIC_DISPATCH(matmul_rows_target)
  (w, row_begin, row_end, x, out, out_stride, scratch);
}

int64_t activation_tile(const MatrixRef& w, int64_t columns) {
  select_simd_level();
  if (const NeonKernels* neon = beyond_neon()) return neon->activation_tile(w, columns);
  return HWY_DYNAMIC_DISPATCH(activation_tile_target)(w, columns);
}

void tile_activations(const float* x, int64_t stride, int64_t columns, int64_t k, int64_t tile,
                      std::vector<float>& out, ThreadPool& pool) {
  out.resize(static_cast<size_t>(columns * k));
  pool.parallel_for((columns + tile - 1) / tile, 1, [&](int64_t t, int64_t, int) {
    const int64_t first = t * tile, width = std::min(tile, columns - first);
    for (int64_t c = 0; c < width; ++c) {
      const float* from = x + (first + c) * stride;
      float* to = out.data() + first * k + c;
      for (int64_t i = 0; i < k; ++i) to[i * width] = from[i];
    }
  });
}

void quantize_activations(const float* x, int64_t stride, int64_t columns, int64_t k, int64_t tile,
                          QuantizedActivations& out, ThreadPool& pool) {
  select_simd_level();
  out.columns = columns;
  out.k = k;
  out.tile = tile;
  out.q.resize(static_cast<size_t>(columns * k));
  out.scales.resize(static_cast<size_t>(columns * (k / 32)));
  out.sum32.resize(out.scales.size());
  out.fsum32.resize(out.scales.size());
  out.sum16.resize(out.scales.size() * 2);
  out.fsum16.resize(out.scales.size() * 2);
  const int64_t tiles = (columns + tile - 1) / tile;
  const auto quantize = [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * tile, blocks = first * (k / 32);
      const Tile to{out.q.data() + first * k,      out.scales.data() + blocks,
                    out.sum32.data() + blocks,     out.fsum32.data() + blocks,
                    out.sum16.data() + 2 * blocks, out.fsum16.data() + 2 * blocks};
      HWY_DYNAMIC_DISPATCH(quantize_tile_target)
      (x + first * stride, stride, k / 32, std::min(tile, columns - first), to);
    }
  };
  if (columns <= 8) {
    quantize(0, tiles, 0);  // shorter than waking a thread
  } else {
    pool.parallel_for(tiles, 4, quantize);
  }
}

void decode_row(const MatrixRef& w, int64_t row, float* out) {
  WeightView view;
  view.format = w.format;
  view.shape = {w.rows, w.cols};
  const auto span = [](const uint8_t* p, int64_t n) {
    return std::span(reinterpret_cast<const std::byte*>(p), static_cast<size_t>(n));
  };
  if (w.format == QuantFormat::kMlxAffine) {
    const int64_t scales =
        w.rows * (w.cols / w.group) * (w.scale_format == QuantFormat::kF32 ? 4 : 2);
    view.bits = w.bits;
    view.group = w.group;
    view.scale_format = w.scale_format;
    view.scales = span(w.scales, scales);
    view.biases = span(w.biases, scales);
  }
  view.bytes = span(w.data, w.rows * w.row_stride);
  dequantize_row(view, row, out);
}

}  // namespace mlxr::cpu
#endif  // HWY_ONCE
