// The table of what interleaving gives covers every format that can be interleaved, and says what
// memory it takes.
#include "core/kernels/cpu/pack_gains.h"

#include <gtest/gtest.h>

#include "core/kernels/cpu/packed_layout.h"
#include "tests/core/random_weights.h"

namespace mlxr {
namespace {

std::vector<testing::RandomWeight> every_weight() {
  std::vector<testing::RandomWeight> all;
  for (const QuantFormatInfo& f : quant_formats()) {
    if (f.format == QuantFormat::kMlxAffine) continue;
    all.push_back(testing::random_weight(f.format, 32, 2048, 1));
  }
  for (int32_t bits : {2, 3, 4, 5, 6, 8}) {
    all.push_back(testing::random_affine(bits, 64, QuantFormat::kF16, 32, 2048, 1));
  }
  return all;
}

TEST(PackGains, EveryFormatThatCanBePackedIsMeasured) {
  for (const auto& w : every_weight()) {
    const cpu::MatrixRef ref = w.ref();
    const bool has_layout = cpu::is_float(ref.format) || cpu::packed_layout(ref).bits != 0;
    const cpu::PackGain* gain = cpu::pack_gain(ref);
    ASSERT_EQ(gain != nullptr, has_layout) << format_name(w.view());
    if (gain == nullptr) continue;
    const double bytes =
        static_cast<double>(cpu::packed_bytes(ref)) / static_cast<double>(w.view().total_bytes());
    EXPECT_NEAR(gain->memory, bytes, 0.006) << format_name(w.view());
  }
}

// A gain of either product is enough; what was not measured, or runs on another level, is packed.
TEST(PackGains, DecideByLevel) {
  for (const auto& w : every_weight()) {
    const cpu::PackGain* gain = cpu::pack_gain(w.ref());
    const auto pays = [&](const double(&of)[2]) { return of[0] > 1.05 || of[1] > 1.05; };
    EXPECT_EQ(cpu::packing_pays(w.ref(), "avx512"), gain == nullptr || pays(gain->avx512));
    EXPECT_EQ(cpu::packing_pays(w.ref(), "avx2"), gain == nullptr || pays(gain->avx2));
    EXPECT_TRUE(cpu::packing_pays(w.ref(), "neon-i8mm"));
  }
}

}  // namespace
}  // namespace mlxr
