// Which tokens the next step computes: every running answer's next one, then chunks of prompts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "daemon/scheduler/running_sequence.h"
#include "daemon/scheduler/step_cost.h"

namespace mlxr {

struct BatchLimits {
  int64_t max_tokens = 512;
  int64_t max_chunk = 512;       // of a prompt's tokens
  double target_seconds = 0.08;  // of a step while answers run
};

struct Batch {
  struct Member {
    RunningSequence* sequence = nullptr;
    bool prompt = false;  // its answer has not begun, or is computed again
    // Sequences with the very same tokens: they take this one's KV and logits.
    std::vector<RunningSequence*> twins;
  };
  std::vector<SequenceSlice> slices;
  std::vector<Member> members;  // one a slice
  StepLoad load;
  bool has_prompt = false;
};

// `answers` have one token to compute and those proposed to follow it; `prompts` have more, in the
// order in which they may use the room that is left. All hold KV. At most max_tokens - 1 tokens of
// answers when there are prompts.
//
// Prompts share the room evenly, and while answers run only as much of it as keeps the step within
// target_seconds by `cost`; a quarter of the target is theirs in any case. A prompt whose next
// block is being computed in this very step by another waits and takes it from the cache after.
Batch compose_batch(std::span<RunningSequence* const> answers,
                    std::span<RunningSequence* const> prompts, const BatchLimits& limits,
                    const StepCost& cost);

}  // namespace mlxr
