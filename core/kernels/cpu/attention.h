// Paged attention of many sequences over a KV arena (kv_layout.h).
//
// Contract: a query's result depends on its own sequence and positions alone, bit for bit on one
// instruction set: not on the batch, the chunking of the prompt, the number of threads, the path
// (decode or prefill) or block_tokens. So all paths share one order of arithmetic:
//   - positions are cut into spans of kAttentionSpan, spans into tiles of kAttentionTile, both at
//     absolute positions;
//   - a score is one chain of fused multiply-adds over head_dim in order; of keys with scales, each
//     group of 32 dimensions is such a chain, and one more adds the chains' ends times the scales;
//   - a tile makes one online softmax update of its span's (max, sum, acc), in powers of two
//     (Milakov and Gimelshein 2018; Dao et al. 2022); each element of acc is one chain over tokens
//     in order (weights are multiplied by a value's scale before); the sum keeps one partial sum a
//     vector lane until the span ends;
//   - spans are merged in order, one by one.
// How many queries share a vector of keys, which thread walks which span, and whether stored
// numbers are widened in registers or in scratch is free: none of it changes a chain.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/kernels/cpu/kv_layout.h"

namespace mlxr {
class ThreadPool;
}

namespace mlxr::cpu {

inline constexpr int64_t kAttentionTile = 128;
inline constexpr int64_t kAttentionSpan = 512;

struct AttentionParams {
  int32_t heads = 0;             // query heads; a multiple of kv_heads
  float scale = 1;               // of the scores
  int32_t window = 0;            // a query sees itself and window - 1 positions before; 0: all
  float soft_cap = 0;            // score = cap * tanh(score / cap); 0: none
  bool causal = true;            // false: every query sees all tokens of its sequence; no window
  const float* sinks = nullptr;  // [heads] logits that only take part in the softmax's sum
};

// Consecutive positions of one sequence, which are consecutive tokens of the step.
struct AttentionSequence {
  int32_t first = 0;                // index of its first token in the step
  int32_t count = 0;                // tokens
  int64_t position = 0;             // of its first token
  const int32_t* blocks = nullptr;  // block table, enough for position + count tokens
};

// Query tokens of one sequence for the heads that share one KV head.
struct AttentionTask {
  const float* q = nullptr;  // first token, first head of the group
  float* out = nullptr;      // the same place of the result
  const int32_t* blocks = nullptr;
  int64_t position = 0;
  int64_t last_seen = 0;  // the last position that its last token sees
  int32_t tokens = 0;
  int32_t kv_head = 0;
};

// One thread's scratch.
struct AttentionScratch {
  AlignedBuffer<float> q, scores, keys, values, scales, weights, sums, maxima, partials;
  AlignedBuffer<int32_t> positions;
};

// Reused between calls, by one caller at a time.
struct AttentionWorkspace {
  struct Unit {
    AttentionTask task;
    int64_t first_span = 0, last_span = 0;
    int64_t partials = -1;  // where its spans' partial results start; -1: one piece walks them all
  };
  struct Piece {
    int32_t unit = 0;
    int64_t first_span = 0, last_span = 0;
  };
  std::vector<Unit> units;
  std::vector<Piece> pieces;
  std::unique_ptr<std::atomic<int32_t>[]> spans_left;  // of each unit
  size_t spans_left_size = 0;
  AlignedBuffer<float> partials;
  std::vector<AttentionScratch> scratch;  // of each worker
};

// Attention of every sequence over its own blocks. q and out are [token, heads, head_dim]
// float32 with `stride` floats a token. Keys and values of all those tokens are stored already.
void attention(const KvLayerRef& layer, const AttentionParams& params,
               std::span<const AttentionSequence> sequences, const float* q, int64_t stride,
               float* out, ThreadPool& pool, AttentionWorkspace& workspace);

}  // namespace mlxr::cpu
