// Runs a model: one ragged graph step over any mix of sequences, decode tokens and prompt chunks
// together (docs/architecture.md, "a request's life").
// Not thread-safe: one thread owns an engine and everything that it hands out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/kv_layout.h"
#include "core/runtime/kv/pager.h"
#include "core/runtime/model.h"

namespace mlxr {

struct EngineOptions {
  int32_t context_length = 0;  // tokens a sequence may hold; 0: what the model was trained for
  int64_t kv_bytes = 0;        // size of the KV arena; 0: four full contexts
  KvType kv_type = KvType::kF16;
  int32_t kv_block_tokens = 32;  // 16 or 32
};

// A sequence's part in a step: these tokens follow what its KV holds.
struct SequenceSlice {
  KvSequence* kv = nullptr;
  std::span<const int32_t> tokens;
  enum class Logits { kNone, kLast, kAll } logits = Logits::kLast;
};

// Logits [rows, vocab] float32, rows in the order of the slices that asked for them.
class StepLogits {
 public:
  StepLogits() = default;
  StepLogits(mlx::core::array values, int32_t rows, int32_t vocab);
  int32_t rows() const { return rows_; }
  std::span<const float> row(int32_t index) const;

 private:
  std::optional<mlx::core::array> values_;
  int32_t rows_ = 0;
  int32_t vocab_ = 0;
};

class Engine {
 public:
  // Throws Error{kOutOfMemory} with the sizes when the KV arena does not fit the machine.
  Engine(std::shared_ptr<const Model> model, const EngineOptions& options,
         std::shared_ptr<ThreadPool> threads);
  ~Engine();

  const Model& model() const;
  int32_t context_length() const;
  int64_t kv_bytes() const;  // size of the arena
  Pager& pager();

  // An empty sequence. It must not outlive the engine.
  KvSequence new_sequence() { return KvSequence(pager()); }

  // Computes every slice, stores its K/V (reserving blocks) and advances its sequence.
  // Throws Error{kOutOfMemory} before touching anything when blocks run out, and
  // Error{kInvalidArgument} for a token outside the vocabulary or a position outside the context.
  StepLogits step(std::span<const SequenceSlice> slices);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
