// Runs a model: one ragged graph step over any mix of sequences, decode tokens and prompt chunks
// together (docs/architecture.md, "a request's life").
// Not thread-safe: one thread owns an engine and everything that it hands out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/cpu/kv_layout.h"
#include "core/kernels/primitives/kernel_times.h"
#include "core/runtime/adapters/adapter.h"
#include "core/runtime/kv/kv_sequence.h"
#include "core/runtime/model.h"

namespace mlxr {

struct EngineOptions {
  int32_t context_length = 0;  // tokens a sequence may hold; 0: what the model was trained for
  int64_t kv_bytes = 0;        // size of the KV arena; 0: four full contexts
  KvType kv_type = KvType::kF16;
  int32_t kv_block_tokens = 32;  // 16 or 32
  // That a sequence of a model with sliding windows goes on by at most in one step.
  int32_t window_step_tokens = KvWindow().step_tokens;
  int64_t memory =
      0;  // of which an arena of no given size takes a quarter at most; 0: the machine's
};

// A sequence's part in a step: these tokens follow what its KV holds, those ahead included.
struct SequenceSlice {
  KvSequence* kv = nullptr;
  std::span<const int32_t> tokens;
  // What the step gives for it: logits after its last token or after each one, or these tokens'
  // final states, normed, which are not multiplied by the vocabulary. Encoders have states only.
  enum class Logits { kNone, kLast, kAll, kLastState, kAllStates } logits = Logits::kLast;
  int32_t proposed = 0;  // the last ones of the tokens: they are stored ahead (kv_sequence.h)
  std::span<const int32_t> token_types{};  // of an encoder's tokens; empty: all 0
  // Of this engine's model, added up in this order. What its KV holds was computed with the same.
  std::span<const ScaledAdapter> adapters = {};

  int64_t begin() const { return kv->length() + kv->ahead(); }  // the first token's position
  int64_t end() const { return begin() + static_cast<int64_t>(tokens.size()); }
};

// What an engine does with a slice when its K/V are stored.
void mark_stored(const SequenceSlice& slice);

// Logits [rows, vocab] and final states [state rows, hidden], float32, rows in the order of the
// slices that asked for them.
class StepLogits {
 public:
  StepLogits() = default;
  StepLogits(mlx::core::array values, int32_t rows, int32_t vocab);
  int32_t rows() const { return rows_; }
  std::span<const float> row(int32_t index) const;

  // Row i of the states is values[rows[i]].
  void set_states(mlx::core::array values, std::vector<int32_t> rows);
  int32_t state_rows() const { return static_cast<int32_t>(state_rows_.size()); }
  std::span<const float> state(int32_t index) const;

 private:
  std::optional<mlx::core::array> values_, states_;
  int32_t rows_ = 0;
  int32_t vocab_ = 0;
  std::vector<int32_t> state_rows_;
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
  // Of all steps: each kernel, and "graph", what a step took beside them.
  const KernelTimes& kernel_times() const;

  // What the bits of a block depend on, `program` being the file that runs (kv/kv_identity.h).
  std::string kv_identity(const std::filesystem::path& program) const;
  int64_t block_bytes() const;  // keys and values of a block, in all layers
  // Copies a block that is full, or to be filled, and whole (pager.h): layer by layer, its keys,
  // then its values.
  void save_block(BlockId block, std::span<std::byte> to) const;
  void load_block(BlockId block, std::span<const std::byte> from);

  // An empty private sequence. It must not outlive the engine, nor may those made with a salt
  // (kv_sequence.h), which share what they have in common.
  KvSequence new_sequence() { return KvSequence(pager()); }

  // Computes every slice, stores its K/V (reserving blocks) and advances its sequence by all but
  // the proposed tokens.
  // An encoder's slices are whole sequences that ask for states.
  // Throws Error{kOutOfMemory} before touching anything when blocks run out, and
  // Error{kInvalidArgument} for a token outside the vocabulary or a position outside the context.
  StepLogits step(std::span<const SequenceSlice> slices);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxr
