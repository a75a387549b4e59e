// Polls for something, and says what is waited for once that has taken half a second.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "cli/client/progress_line.h"

namespace mlxr::cli {

class Waiting {
 public:
  explicit Waiting(std::string text) : text_(std::move(text)) {}
  std::chrono::milliseconds passed() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_);
  }
  void pause() {
    if (!line_ && passed() > std::chrono::milliseconds(500)) line_.emplace(text_);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string text_;
  Clock::time_point start_ = Clock::now();
  std::optional<ProgressLine> line_;
};

}  // namespace mlxr::cli
