// Lets a smaller model propose: it has an engine of its own, and there a KV sequence for each
// answer. Not thread-safe: belongs to the scheduler's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/runtime/spec/depth_controller.h"
#include "core/runtime/spec/retokenizer.h"
#include "daemon/scheduler/step_engine.h"

namespace mlxr {

class RunningSequence;

class Drafter {
 public:
  // Proposes for `model`. A draft with another vocabulary reads and writes it through the text
  // (retokenizer.h). In a step, it reads at most `max_tokens` tokens that it has not seen: an
  // answer whose text is longer proposes once all of it was read. Throws Error{kInvalidArgument}
  // when one of the two has no tokenizer.
  Drafter(std::unique_ptr<StepEngine> engine, const Model& model, int64_t max_tokens);

  struct Want {
    RunningSequence* sequence = nullptr;
    int32_t most = 0;  // tokens, at least one
  };
  // Calls propose() of the sequences. One whose text does not fit the draft's arena or context
  // proposes nothing in this step; after an error of the engine those here never do again.
  void propose(std::span<const Want> wants);
  // After the sequence's accept(): keeps what was right of the draft.
  void settle(RunningSequence& sequence) const;

  // What a proposed token of each of so many sequences takes.
  double seconds(int32_t sequences) const {
    return (retokenizer_ ? proposals_ : rounds_).seconds(sequences);
  }

 private:
  // A sequence's, as the draft reads it. The first `settled` tokens stay what they are; nothing can
  // be proposed behind one that is not whole.
  struct Text {
    std::span<const int32_t> tokens;
    size_t settled = 0;
    bool whole = true;
  };
  struct Draft {
    RunningSequence* sequence = nullptr;
    int32_t most = 0;
    size_t begin = 0, end = 0;    // sizes of the text, and that `tokens` is to have
    std::vector<int32_t> tokens;  // the text and what was drafted
  };
  // Of a step: tokens that are left, what its slices take.
  struct Room {
    int64_t tokens = 0;
    KvNeed reserved;
  };
  Text text_of(RunningSequence& sequence) const;
  std::optional<SequenceSlice> next_slice(const Want& want, const Text& text, Room& room);
  std::vector<Draft> read(std::span<const Want> wants);
  void draft(std::vector<Draft>& drafts);
  void add_token(Draft& draft, std::span<const float> row);
  void add_best_token(Draft& draft, std::span<const float> row) const;
  void propose(const Draft& draft) const;
  void propose_again_tokenised(const Draft& draft) const;
  StepLogits step(std::span<const SequenceSlice> slices);

  std::unique_ptr<StepEngine> engine_;
  int64_t max_tokens_;
  std::shared_ptr<const Retokenizer> retokenizer_;  // null: the vocabulary is the model's
  StepCosts rounds_;                                // of the engine's steps, by their tokens
  StepCosts proposals_;        // of a token of proposals, by their sequences, tokenising included
  bool read_much_ = false;     // more than what came since the last proposal
  std::vector<float> fitted_;  // a row with the size of the model's vocabulary
};

}  // namespace mlxr
