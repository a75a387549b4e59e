#include <algorithm>
#include <cmath>

#include "core/base/float16.h"
#include "core/formats/block_codecs.h"
#include "core/formats/block_layouts.h"

namespace mlxr {

void encode_q8_0(const float* values, std::byte* bytes, int64_t n) {
  for (int64_t i = 0; i < n; i += 32, bytes += sizeof(BlockQ8_0)) {
    float largest = 0;
    for (int j = 0; j < 32; ++j) largest = std::max(largest, std::fabs(values[i + j]));
    const float d = largest / 127.0f;
    const float inverse = d > 0 ? 1.0f / d : 0.0f;
    BlockQ8_0 block;
    block.d = f32_to_f16(d);
    for (int j = 0; j < 32; ++j) {
      block.qs[j] = static_cast<int8_t>(std::lround(values[i + j] * inverse));
    }
    std::memcpy(bytes, &block, sizeof(block));
  }
}

}  // namespace mlxr
