// How many tokens to propose a step: as many as pay, by what steps were measured to cost and how
// often proposals were measured to be right; none when none pay.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace mlxr {

// Seconds of a step by its tokens. Belongs to a model: its sequences run on the same machine.
class StepCosts {
 public:
  void record(int32_t tokens, double seconds);
  // Measured, or on the line through what was; 0 while nothing was.
  double seconds(int32_t tokens) const;
  bool measured(int32_t tokens) const;

 private:
  struct Mean {
    double seconds = 0;
    int32_t count = 0;
    int64_t latest = 0;  // of all records
  };
  std::vector<Mean> by_tokens_;
  int64_t records_ = 0;
};

// A step that a sequence shared with others, as it would have been with another depth.
struct SharedStep {
  std::function<double(int32_t)> seconds;  // by the depth, drafting included; 0: unknown
  double others = 0;                       // tokens that it was expected to bring to the others
};

// How often proposals are right.
struct ProposalRate {
  double mean = 0.5;  // a coin, until proposals were judged
  int32_t count = 0;
  void judge(bool right);
};

// Where a controller stands. The next sequence of a model begins where the latest one left off.
struct DepthState {
  ProposalRate first;  // that a proposal's first token is right
  ProposalRate later;  // that another one is, where those before it were
  int32_t depth = 0;
  int32_t pause = 0;            // steps between probes; 0: not begun
  int32_t since = 0;            // steps since the last probe or refresh
  bool refresh_deeper = false;  // the next refresh: deeper, or without a proposal
};

struct DepthOptions {
  int32_t deepest = 8;          // tokens of a proposal
  int32_t first_depth = 2;      // of the first try, and of probes
  int32_t first_pause = 16;     // steps without a proposal before the first probe
  int32_t longest_pause = 512;  // each probe that fails doubles the pause, up to this
  int32_t refresh = 64;         // while proposing: one step in so many tries none, or more
};

// One for each sequence: how predictable a text is is its own. Climbs and descends one token at a
// time; at 0 it probes now and then, ever more rarely while that does not pay. What pays is what
// brings all sequences of a step the most tokens a second.
class DepthController {
 public:
  // Begins from `latest`, and leaves there what it learns.
  explicit DepthController(DepthState& latest, const DepthOptions& options = {});

  // Tokens to propose in the next step.
  int32_t depth() const;
  // What the step did: how many tokens were proposed (fewer than depth() where the proposer had
  // fewer), and how many were accepted.
  void record(int32_t proposed, int32_t accepted, const SharedStep& step);

  // Tokens that a step of this depth is expected to bring, the model's own included.
  double expected_tokens(int32_t depth) const;

 private:
  bool is_probe() const;
  double gain(int32_t depth, const SharedStep& step) const;  // tokens a second
  void learn(int32_t proposed, int32_t accepted);
  void choose_depth(const SharedStep& step);

  DepthState& latest_;
  DepthOptions options_;
  DepthState state_;
};

}  // namespace mlxr
