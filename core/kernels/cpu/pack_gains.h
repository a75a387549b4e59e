// Which formats are interleaved at load: those that gain by it, as measured.
//
// Speed of a packed matrix over the same one as it lies in its file, one thread: of one column
// against 65536 x 2048 weights (F32: 16384 x 2048), which no cache holds (a step of generation),
// and of 64 against 8192 x 2048 (a prompt). mlxr-matmul-bench (decode1, prompt64), its thread's own
// time, on a Zen 4 machine of two cores that others kept busy as well (load 3 to 4), one run a
// figure: a tenth more or less is noise. AVX2 is the same machine with MLXR_SIMD=avx2. Where rows
// have no kernel (IQ, TQ, FP4, Q8_K) they are decoded each time; those of MLX's 2, 3, 5 and 6 bits
// are unpacked bit by bit.
#pragma once

#include <string_view>

#include "core/kernels/cpu/matrix_ref.h"

namespace mlxr::cpu {

struct PackGain {
  QuantFormat format;
  int32_t bits;      // MLX's, measured with groups of 64; else 0
  double memory;     // packed bytes over the file's
  double avx512[2];  // gain of 1 and of 64 columns, with VNNI
  double avx2[2];
};

inline constexpr PackGain kPackGains[] = {
    {QuantFormat::kF16, 0, 1.00, {1.99, 0.96}, {1.18, 2.11}},
    {QuantFormat::kBF16, 0, 1.00, {1.76, 0.95}, {1.29, 2.12}},
    {QuantFormat::kQ4_0, 0, 1.00, {2.30, 1.19}, {1.93, 1.10}},
    {QuantFormat::kQ4_1, 0, 1.00, {3.38, 1.28}, {2.15, 1.17}},
    {QuantFormat::kQ5_0, 0, 1.00, {2.23, 1.15}, {1.91, 1.10}},
    {QuantFormat::kQ5_1, 0, 1.00, {2.21, 1.41}, {2.51, 1.08}},
    {QuantFormat::kQ8_0, 0, 1.00, {2.61, 1.23}, {2.57, 1.05}},
    {QuantFormat::kQ2_K, 0, 1.00, {1.84, 1.19}, {1.70, 1.12}},
    {QuantFormat::kQ3_K, 0, 1.00, {2.43, 1.26}, {1.79, 0.85}},
    {QuantFormat::kQ4_K, 0, 1.00, {2.55, 1.23}, {2.53, 1.19}},
    {QuantFormat::kQ5_K, 0, 1.00, {3.48, 1.23}, {3.47, 1.16}},
    {QuantFormat::kQ6_K, 0, 1.00, {3.13, 1.49}, {3.10, 1.28}},
    {QuantFormat::kQ8_K, 0, 0.89, {7.37, 5.05}, {8.99, 2.04}},
    {QuantFormat::kIQ2_XXS, 0, 1.61, {185, 13}, {139, 6.06}},
    {QuantFormat::kIQ2_XS, 0, 1.54, {159, 12}, {122, 5.40}},
    {QuantFormat::kIQ2_S, 0, 1.39, {151, 11}, {122, 4.75}},
    {QuantFormat::kIQ3_XXS, 0, 1.41, {217, 15}, {161, 6.39}},
    {QuantFormat::kIQ3_S, 0, 1.25, {212, 15}, {213, 6.72}},
    {QuantFormat::kIQ1_S, 0, 2.12, {43, 6.35}, {48, 2.99}},
    {QuantFormat::kIQ1_M, 0, 2.04, {52, 6.00}, {45, 4.16}},
    {QuantFormat::kIQ4_NL, 0, 1.00, {64, 7.11}, {36, 2.22}},
    {QuantFormat::kIQ4_XS, 0, 1.01, {67, 7.00}, {41, 2.34}},
    {QuantFormat::kTQ1_0, 0, 1.22, {111, 7.13}, {76, 3.37}},
    {QuantFormat::kTQ2_0, 0, 1.00, {117, 7.26}, {102, 3.68}},
    {QuantFormat::kMXFP4, 0, 1.00, {65, 7.04}, {52, 3.71}},
    {QuantFormat::kNVFP4, 0, 1.00, {49, 5.91}, {28, 2.84}},
    {QuantFormat::kMlxAffine, 2, 1.00, {20, 1.55}, {15, 1.33}},
    {QuantFormat::kMlxAffine, 3, 1.00, {65, 3.59}, {47, 2.25}},
    {QuantFormat::kMlxAffine, 4, 1.00, {2.50, 1.20}, {2.02, 1.10}},
    {QuantFormat::kMlxAffine, 5, 1.00, {44, 3.50}, {29, 2.39}},
    {QuantFormat::kMlxAffine, 6, 1.00, {36, 3.44}, {28, 2.62}},
    {QuantFormat::kMlxAffine, 8, 1.00, {2.26, 1.27}, {2.37, 1.37}},
    {QuantFormat::kF32, 0, 1.00, {2.05, 1.12}, {0.84, 1.15}},
};

// Null for a format that was not measured.
constexpr const PackGain* pack_gain(const MatrixRef& w) {
  for (const PackGain& gain : kPackGains) {
    if (gain.format == w.format && gain.bits == w.bits) return &gain;
  }
  return nullptr;
}

// True if one of the two products gains more than 5 %. What was not measured pays: NEON has no
// kernels for rows, and decodes them to floats.
constexpr bool packing_pays(const MatrixRef& w, std::string_view level) {
  const PackGain* gain = pack_gain(w);
  if (gain == nullptr || (level != "avx512" && level != "avx2")) return true;
  const auto& columns = level == "avx512" ? gain->avx512 : gain->avx2;
  return columns[0] > 1.05 || columns[1] > 1.05;
}

}  // namespace mlxr::cpu
