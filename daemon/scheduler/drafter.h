// Lets a smaller model propose: it has an engine of its own, and there a KV sequence for each
// answer. Not thread-safe: belongs to the scheduler's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/runtime/spec/depth_controller.h"
#include "daemon/scheduler/step_engine.h"

namespace mlxr {

class RunningSequence;

// Throws Error{kInvalidArgument} with the first difference when two models' tokens are not the same
// (logits beyond the tokenizer's ids may be).
void check_same_vocabulary(const Model& model, const Model& draft);

class Drafter {
 public:
  // The engine's model passes check_same_vocabulary. In a step, it reads at most `max_tokens`
  // tokens that it has not seen: an answer whose text is longer proposes once all of it was read.
  Drafter(std::unique_ptr<StepEngine> engine, int64_t max_tokens)
      : engine_(std::move(engine)), max_tokens_(max_tokens) {}

  struct Want {
    RunningSequence* sequence = nullptr;
    int32_t most = 0;  // tokens, at least one
  };
  // Calls propose() of the sequences. One whose text does not fit the draft's arena or context
  // proposes nothing in this step; after an error of the engine those here never do again.
  void propose(std::span<const Want> wants);
  // After the sequence's accept(): keeps what was right of the draft.
  static void settle(RunningSequence& sequence);

  // What a drafted token of each of so many sequences takes.
  double seconds(int32_t sequences) const { return rounds_.seconds(sequences); }

 private:
  struct Draft {
    RunningSequence* sequence = nullptr;
    size_t end = 0;               // size that `tokens` is to have
    std::vector<int32_t> tokens;  // the text and what was drafted
  };
  std::vector<Draft> read(std::span<const Want> wants);
  void draft(std::vector<Draft> drafts);
  void add_token(Draft& draft, std::span<const float> row);
  StepLogits step(std::span<const SequenceSlice> slices);

  std::unique_ptr<StepEngine> engine_;
  int64_t max_tokens_;
  StepCosts rounds_;           // of the engine's steps, by their tokens
  std::vector<float> fitted_;  // a row with the size of the model's vocabulary
};

}  // namespace mlxr
