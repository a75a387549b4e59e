#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>

namespace mlxr {

// How fast requests are answered, for those who are told to come back.
class AnswerRate {
 public:
  using Clock = std::chrono::steady_clock;

  void answered(Clock::time_point now) {
    if (last_) interval_ += (std::chrono::duration<double>(now - *last_).count() - interval_) * 0.2;
    last_ = now;
  }
  void idle() { last_.reset(); }
  std::chrono::seconds time_for(int64_t answers) const {
    const double seconds = std::ceil(interval_ * static_cast<double>(answers));
    return std::chrono::seconds(static_cast<int64_t>(std::clamp(seconds, 1.0, 600.0)));
  }

 private:
  std::optional<Clock::time_point> last_;
  double interval_ = 0;  // seconds, exponentially averaged
};

}  // namespace mlxr
