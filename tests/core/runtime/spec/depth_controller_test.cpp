// The controller over simulated texts: a machine whose steps cost what they cost, a text whose
// proposals are right as often as they are.
#include "core/runtime/spec/depth_controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

namespace mlxr {
namespace {

struct Machine {
  double base = 1.0;        // seconds of a step without a proposal
  double per_token = 0.05;  // more for each proposed one
  double noise = 0.05;      // of a step's time, relative
};

SharedStep shared_step(const StepCosts& costs, int32_t others = 0) {
  return {.seconds = [&costs, others](int32_t d) { return costs.seconds(d + 1 + others); },
          .others = static_cast<double>(others)};
}

class SimulatedText {
 public:
  explicit SimulatedText(const Machine& machine) : machine_(machine) {}

  // Tokens a second over `steps` steps with proposals that are right at `rate`. In each step others
  // compute `others` tokens more, one each.
  double speed(DepthController& controller, StepCosts& costs, int steps, double rate,
               int32_t others = 0) {
    double tokens = 0, time = 0;
    for (int i = 0; i < steps; ++i) {
      const int32_t depth = controller.depth();
      int32_t accepted = 0;
      while (accepted < depth && chance_(random_) < rate) ++accepted;
      const double seconds = (machine_.base + machine_.per_token * (depth + others)) *
                             (1 + machine_.noise * (2 * chance_(random_) - 1));
      costs.record(depth + 1 + others, seconds);
      controller.record(depth, accepted, shared_step(costs, others));
      tokens += accepted + 1 + others;
      time += seconds;
    }
    return tokens / time;
  }

  double plain() const { return 1 / machine_.base; }
  double at(int32_t depth, double rate) const {
    double expected = 0;
    for (int32_t i = 0; i <= depth; ++i) expected += std::pow(rate, i);
    return expected / (machine_.base + machine_.per_token * depth);
  }
  double best(int32_t deepest, double rate) const {
    double most = 0;
    for (int32_t depth = 0; depth <= deepest; ++depth) most = std::max(most, at(depth, rate));
    return most;
  }

 private:
  Machine machine_;
  std::mt19937 random_{5};
  std::uniform_real_distribution<double> chance_{0.0, 1.0};
};

TEST(DepthController, FindsTheDepthThatPays) {
  for (const double per_token : {0.02, 0.1, 0.3}) {
    for (const double rate : {0.5, 0.7, 0.9, 0.97}) {
      SimulatedText run({.per_token = per_token});
      StepCosts costs;
      DepthState latest;
      DepthController controller(latest);
      run.speed(controller, costs, 300, rate);
      // A gain of a few percent may be missed in the noise, but never turned into a loss.
      const double best = run.best(8, rate);
      const double least = best > 1.3 * run.plain() ? 0.93 * best : 0.97 * run.plain();
      EXPECT_GT(run.speed(controller, costs, 3000, rate), least) << per_token << " " << rate;
    }
  }
}

TEST(DepthController, StaysOffWhereItDoesNotPay) {
  for (const double per_token : {0.1, 0.5, 1.0}) {
    for (const double rate : {0.0, 0.05, 0.1}) {
      SimulatedText run({.per_token = per_token});
      StepCosts costs;
      DepthState latest;
      DepthController controller(latest);
      EXPECT_GT(run.speed(controller, costs, 2000, rate), 0.97 * run.plain())
          << per_token << " " << rate;
      EXPECT_EQ(controller.depth(), 0);
    }
  }
}

TEST(DepthController, NoticesWhenATextChanges) {
  SimulatedText run({.per_token = 0.1});
  StepCosts costs;
  DepthState latest;
  DepthController controller(latest);
  run.speed(controller, costs, 1000, 0.0);
  EXPECT_EQ(controller.depth(), 0);
  run.speed(controller, costs, 700, 0.95);
  EXPECT_GT(run.speed(controller, costs, 500, 0.95), 0.9 * run.best(8, 0.95));
  run.speed(controller, costs, 100, 0.0);
  EXPECT_GT(run.speed(controller, costs, 1000, 0.0), 0.97 * run.plain());
}

TEST(DepthController, NoticesWhenTheMachineChanges) {
  StepCosts costs;
  DepthState latest;
  DepthController controller(latest);
  SimulatedText alone({.per_token = 0.02});
  alone.speed(controller, costs, 500, 0.5);
  EXPECT_GT(controller.depth(), 0);
  // A full batch: more tokens cost what they weigh.
  SimulatedText crowded({.per_token = 1.0});
  crowded.speed(controller, costs, 300, 0.5);
  EXPECT_GT(crowded.speed(controller, costs, 1000, 0.5), 0.97 * crowded.plain());
}

TEST(DepthController, ProbesEverMoreRarely) {
  StepCosts costs;
  DepthState latest;
  DepthController controller(latest);
  int probes = 0, late = 0;
  for (int i = 0; i < 4000; ++i) {
    const int32_t depth = controller.depth();
    probes += depth > 0 ? 1 : 0;
    late += depth > 0 && i >= 2000 ? 1 : 0;
    costs.record(depth + 1, 1.0 + depth);
    controller.record(depth, 0, shared_step(costs));
  }
  EXPECT_GE(probes, 8);
  EXPECT_LE(probes, 20);
  EXPECT_GE(late, 2);
  EXPECT_LE(late, 5);
}

TEST(DepthController, AProposerWithNothingToProposeIsNoProbe) {
  StepCosts costs;
  DepthState latest;
  DepthController controller(latest);
  costs.record(1, 1.0);
  for (int i = 0; i < 100; ++i) controller.record(0, 0, shared_step(costs));
  EXPECT_EQ(controller.depth(), DepthOptions().first_depth) << "still wants its first try";
}

TEST(DepthController, ASequenceBeginsWhereTheLatestLeftOff) {
  StepCosts costs;
  DepthState latest;
  SimulatedText run({.per_token = 0.05});
  DepthController first(latest);
  run.speed(first, costs, 500, 0.95);
  DepthController second(latest);
  EXPECT_EQ(second.depth(), first.depth());
  EXPECT_GE(second.depth(), 4);
  run.speed(second, costs, 300, 0.0);
  EXPECT_EQ(DepthController(latest).depth(), 0);
  // Many short answers that do not pay are not a probe each.
  int probes = 0;
  for (int answer = 0; answer < 100; ++answer) {
    DepthController next(latest);
    for (int step = 0; step < 20; ++step) {
      const int32_t depth = next.depth();
      probes += depth > 0 ? 1 : 0;
      costs.record(depth + 1, 1.0 + depth);
      next.record(depth, 0, shared_step(costs));
    }
  }
  EXPECT_GE(probes, 2);
  EXPECT_LE(probes, 10);
}

// A proposed token costs what a token of another sequence costs, so that in a full batch it has to
// bring as much.
TEST(DepthController, InAFullBatchOnlyWhatBringsMoreThanAverageIsProposed) {
  for (const int32_t others : {0, 40}) {
    StepCosts costs;
    DepthState latest;
    DepthController controller(latest);
    SimulatedText run({.per_token = 0.1, .noise = 0.0});
    run.speed(controller, costs, 300, 0.3, others);
    const double plain = (1.0 + others) / (1 + 0.1 * others);
    const double speed = run.speed(controller, costs, 2000, 0.3, others);
    EXPECT_GT(speed, others == 0 ? 1.08 * plain : 0.97 * plain) << others;
    if (others > 0) {
      EXPECT_EQ(controller.depth(), 0);
    }
  }
}

TEST(StepCosts, ForgetWhatIsOldAndWhatWasInterrupted) {
  StepCosts costs;
  for (int i = 0; i < 20; ++i) costs.record(3, 2.0);
  costs.record(3, 100.0);
  EXPECT_LT(costs.seconds(3), 2.5);
  for (int i = 0; i < 200; ++i) costs.record(1, 1.0);
  costs.record(3, 1.2);
  costs.record(3, 1.2);
  EXPECT_LT(costs.seconds(3), 1.9) << "the machine has become quicker";
  for (int i = 0; i < 40; ++i) costs.record(3, 50.0);
  EXPECT_GT(costs.seconds(3), 40.0) << "it really has become slow";
}

TEST(StepCosts, LieOnTheLineThroughWhatWasMeasured) {
  StepCosts costs;
  EXPECT_EQ(costs.seconds(3), 0);
  costs.record(0, 1.0);
  EXPECT_EQ(costs.seconds(3), 1.0);
  costs.record(4, 2.0);
  EXPECT_DOUBLE_EQ(costs.seconds(2), 1.5);
  EXPECT_DOUBLE_EQ(costs.seconds(6), 2.5);
  EXPECT_FALSE(costs.measured(2));
}

}  // namespace
}  // namespace mlxr
