// Speculation inside the batch: how many tokens each answer proposes in a step, and which. What is
// proposed never changes an answer (core/runtime/spec/verify.h), only how fast it comes.
// Not thread-safe: belongs to the scheduler's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/runtime/kv/kv_sequence.h"
#include "core/runtime/spec/depth_controller.h"
#include "core/runtime/spec/ngram_proposer.h"
#include "core/runtime/spec/retokenizer.h"
#include "daemon/scheduler/drafter.h"
#include "daemon/scheduler/speculation_options.h"

namespace mlxr {

struct Batch;
class RunningSequence;

// A sequence's own part.
struct SequenceSpeculation {
  SequenceSpeculation(DepthState& latest, const DepthOptions& options)
      : controller(latest, options) {}
  DepthController controller;
  NgramProposer ngrams;
  std::optional<KvSequence> draft_kv;  // in the draft's arena
  bool draft_failed = false;
  // Of a draft with another vocabulary: the text as it reads it, and what follows that of which its
  // KV holds K/V, the last token drafted included.
  std::optional<RetokenizedText> draft_text;
  std::vector<int32_t> draft_ahead;
  bool drafted_in_vain = false;  // nothing of what was drafted last could be proposed

  // Tokens were dropped from it.
  void text_was_cut() {
    ngrams = NgramProposer();
    draft_text.reset();
  }
};

class Speculation {
 public:
  // Without a drafter, n-grams are proposed.
  Speculation(const DepthOptions& options, std::optional<Drafter> drafter)
      : options_(options), drafter_(std::move(drafter)) {}

  // Lets each of the answers, which hold KV and have one token to compute, propose as many tokens
  // as pay; together at most `tokens` and kMostProposed, which take at most `room` more of the KV
  // arena.
  void propose(std::span<RunningSequence* const> answers, int64_t tokens, KvNeed room);
  // What a step has shown, which took `seconds`, choosing the tokens included. Answers that are
  // `done` are not looked at.
  void learn(const Batch& batch, const std::set<RunningSequence*>& done, double seconds);

 private:
  using Wants = std::vector<Drafter::Want>;
  Wants depths(std::span<RunningSequence* const> answers, int64_t tokens, KvNeed room);
  bool pays_together(const Wants& wants, size_t answers);
  double drafted_seconds(int32_t depth) const;

  DepthOptions options_;
  std::optional<Drafter> drafter_;
  int32_t drafting_ = 0;   // sequences that the drafter was last asked for
  int32_t held_back_ = 0;  // steps since proposals that do not pay together were last tried
  StepCosts costs_;        // of steps without prompts, by the tokens of all answers
  DepthState latest_;
};

}  // namespace mlxr
