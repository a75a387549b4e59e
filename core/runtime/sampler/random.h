// Random numbers of a sequence: functions of (seed, position), so that a seed gives the same text
// whatever shares its batch and however it was computed.
#pragma once

#include <cstdint>

namespace mlxr {

// Different uses at one position draw from different streams.
enum class RandomStream : uint64_t {
  kToken = 0,
  kExcludeTop = 1,
  kAccept = 2,
  kDraft = 3,
  kNextSeed = 4
};

// The finaliser of SplitMix64 (Steele et al. 2014) over seed, stream and position.
inline uint64_t random_bits(uint64_t seed, int64_t position, RandomStream stream) {
  const auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  const uint64_t start = seed + (static_cast<uint64_t>(stream) + 1) * kGolden;
  return mix(mix(start) + (static_cast<uint64_t>(position) + 1) * kGolden);
}

// Uniform in [0, 1).
inline double uniform(uint64_t seed, int64_t position, RandomStream stream = RandomStream::kToken) {
  return static_cast<double>(random_bits(seed, position, stream) >> 11) * 0x1p-53;
}

// The seed of a sequence that goes on at positions which it had before (a shifted context): the
// same numbers again would lead a text that repeats itself round in a circle.
inline uint64_t next_seed(uint64_t seed) { return random_bits(seed, 0, RandomStream::kNextSeed); }

}  // namespace mlxr
