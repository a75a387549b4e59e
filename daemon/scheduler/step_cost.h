// What a step takes, learned from the steps that ran: seconds = a + b * tokens + c * attended.
// Least squares of relative errors, with nothing negative; steps with and without prompts are
// remembered apart, each for its last few dozens, so that a long run of one kind does not make the
// other forgotten.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace mlxr {

// The size of a step.
struct StepLoad {
  double tokens = 0;
  double attended = 0;  // positions that its tokens attend to, summed over tokens

  // Adds `count` tokens of a sequence, the first of them at `position`.
  void add(int64_t count, int64_t position) {
    const auto n = static_cast<double>(count);
    tokens += n;
    attended += n * (static_cast<double>(position) + (n + 1) / 2);
  }
};

class StepCost {
 public:
  void measured(const StepLoad& load, bool has_prompt, double seconds);
  // 0 before the first measurement.
  double seconds(const StepLoad& load) const;
  // How many tokens of a prompt, the first at `position`, take `seconds` in a step that runs
  // anyway.
  int64_t tokens_within(double seconds, int64_t position) const;

 private:
  static constexpr size_t kTerms = 3;
  using Vector = std::array<double, kTerms>;
  struct Sums {  // of the normal equations
    std::array<Vector, kTerms> products{};
    Vector values{};
  };
  void fit();

  std::array<Sums, 2> sums_{};  // without and with prompts
  Vector terms_{};              // a, b, c
};

}  // namespace mlxr
