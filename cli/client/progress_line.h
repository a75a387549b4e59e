// One line on standard error that says what is being waited for. On a terminal it goes away again.
#pragma once

#include <string>

namespace mlxr::cli {

class ProgressLine {
 public:
  explicit ProgressLine(const std::string& text);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  bool terminal_;
};

}  // namespace mlxr::cli
