// Random numbers of a sequence: functions of (seed, position), so that a seed gives the same text
// whatever shares its batch and however it was computed.
#pragma once

#include <cstdint>

namespace mlxr {

// Different uses at one position draw from different streams.
enum class RandomStream : uint64_t { kToken = 0, kExcludeTop = 1, kAccept = 2, kDraft = 3 };

// Uniform in [0, 1): the finaliser of SplitMix64 (Steele et al. 2014) over seed, stream and
// position.
inline double uniform(uint64_t seed, int64_t position, RandomStream stream = RandomStream::kToken) {
  const auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  const uint64_t start = seed + (static_cast<uint64_t>(stream) + 1) * kGolden;
  const uint64_t bits = mix(mix(start) + (static_cast<uint64_t>(position) + 1) * kGolden);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace mlxr
