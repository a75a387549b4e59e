// How keys and values lie in the blocks of a KV arena, for every number format that they may have.
//
// A block holds `block_tokens` (16 or 32) positions of one sequence. One layer is
//   K [block, kv_head, region]    V [block, kv_head, region]
// and a region, the keys or the values of one head in one block, is
//   keys    [head_dim, token]     transposed: one vector holds one dimension of neighbouring keys,
//                                 so that scores need no horizontal sums (decision 1)
//   values  [token, head_dim]
// in float32, float16, bfloat16 or FP8 E4M3 (no scale; beyond 448 it saturates; 0x7f is NaN). The
// formats with scales (decision 4) share one among 32 neighbouring dimensions of one token (the
// last group of a head may be shorter), and the scales, float16 [group, token], follow all numbers
// of the region:
//   q8_0  numbers int8, as above.
//   q4_0  numbers are nibbles less 8; byte i of a group holds its dimension i (low) and i + 16
//         (high), as in GGUF. keys [group * 16, token], values [token, group * 16] bytes: head_dim
//         is padded to whole groups.
// This is also what a persisted block holds.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mlxr {

enum class KvType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kF8E4M3 };

struct KvTypeName {
  KvType type;
  std::string_view name;
};
inline constexpr std::array<KvTypeName, 6> kKvTypes{{{KvType::kF32, "f32"},
                                                     {KvType::kF16, "f16"},
                                                     {KvType::kBF16, "bf16"},
                                                     {KvType::kQ8_0, "q8_0"},
                                                     {KvType::kQ4_0, "q4_0"},
                                                     {KvType::kF8E4M3, "fp8"}}};

constexpr std::string_view kv_type_name(KvType type) {
  for (const KvTypeName& entry : kKvTypes) {
    if (entry.type == type) return entry.name;
  }
  return "?";
}

constexpr std::optional<KvType> kv_type_of(std::string_view name) {
  for (const KvTypeName& entry : kKvTypes) {
    if (entry.name == name) return entry.type;
  }
  return std::nullopt;
}

// Calls body<type>(), for code that is compiled once a type.
template <class Body>
void visit_kv_type(KvType type, const Body& body) {
  switch (type) {
    case KvType::kF32:
      return body.template operator()<KvType::kF32>();
    case KvType::kF16:
      return body.template operator()<KvType::kF16>();
    case KvType::kBF16:
      return body.template operator()<KvType::kBF16>();
    case KvType::kQ8_0:
      return body.template operator()<KvType::kQ8_0>();
    case KvType::kQ4_0:
      return body.template operator()<KvType::kQ4_0>();
    case KvType::kF8E4M3:
      return body.template operator()<KvType::kF8E4M3>();
  }
}

namespace cpu {

inline constexpr int64_t kKvGroup = 32;  // dimensions that share a scale

constexpr int64_t kv_groups(int64_t dim) { return (dim + kKvGroup - 1) / kKvGroup; }

constexpr bool kv_has_scales(KvType type) { return type == KvType::kQ8_0 || type == KvType::kQ4_0; }

// Bytes of `dim` numbers of one token, without scales.
constexpr int64_t kv_number_bytes(KvType type, int64_t dim) {
  switch (type) {
    case KvType::kF32:
      return dim * 4;
    case KvType::kF16:
    case KvType::kBF16:
      return dim * 2;
    case KvType::kQ8_0:
    case KvType::kF8E4M3:
      return dim;
    case KvType::kQ4_0:
      return kv_groups(dim) * kKvGroup / 2;
  }
  return 0;
}

// Bytes of a region.
constexpr int64_t kv_region_bytes(KvType type, int64_t dim, int64_t block_tokens) {
  const int64_t scales = kv_has_scales(type) ? kv_groups(dim) * 2 : 0;
  return (kv_number_bytes(type, dim) + scales) * block_tokens;
}

struct KvLayerRef {
  void* k = nullptr;
  void* v = nullptr;
  KvType type = KvType::kF16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_tokens = 0;

  int64_t region_bytes() const { return kv_region_bytes(type, head_dim, block_tokens); }
  int64_t region_offset(int32_t block, int32_t kv_head) const {
    return (static_cast<int64_t>(block) * kv_heads + kv_head) * region_bytes();
  }
  uint8_t* keys(int32_t block, int32_t kv_head) const {
    return static_cast<uint8_t*>(k) + region_offset(block, kv_head);
  }
  uint8_t* values(int32_t block, int32_t kv_head) const {
    return static_cast<uint8_t*>(v) + region_offset(block, kv_head);
  }
};

}  // namespace cpu
}  // namespace mlxr
