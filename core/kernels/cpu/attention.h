// Paged attention over a KV arena, and the writing of new keys and values into it.
//
// Layout of one layer (all blocks hold `block_tokens` positions of one sequence):
//   K [block, kv_head, head_dim, token]   transposed, so that one vector holds one dimension of
//                                         neighbouring keys and scores need no horizontal sums
//   V [block, kv_head, token, head_dim]
//
// Contract: a query walks the blocks of its sequence in order, from absolute position 0 (or its
// window's first block), with one online softmax update a block (Milakov and Gimelshein 2018; Dao
// et al. 2022). So its result does not depend on how the prompt was chunked or what shares the
// batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mlxr::cpu {

struct KvLayerRef {
  void* k = nullptr;
  void* v = nullptr;
  bool f16 = true;  // else float32
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_tokens = 0;
};

// Stores one token's key and value of every KV head ([kv_heads, head_dim] float32 each) at `slot`
// of `block`.
void kv_store(const KvLayerRef& layer, int32_t block, int32_t slot, const float* key,
              const float* value);

struct AttentionParams {
  int32_t heads = 0;   // query heads; a multiple of kv_heads
  float scale = 1;     // of the scores
  int32_t window = 0;  // a query sees itself and window - 1 positions before; 0: all
};

// Reused between calls. One per thread.
struct AttentionScratch {
  std::vector<float> k, v, scores, acc, max, sum;
};

// Queries of `tokens` consecutive positions from `position` of one sequence, for the heads that
// share one KV head. q and out are [token, heads, head_dim] float32 with `stride` floats a token;
// both point at the first token, head 0. `blocks` is the sequence's block table.
void attention(const KvLayerRef& layer, const AttentionParams& params, int32_t kv_head,
               const float* q, int64_t stride, int32_t tokens, int64_t position,
               std::span<const int32_t> blocks, float* out, AttentionScratch& scratch);

}  // namespace mlxr::cpu
