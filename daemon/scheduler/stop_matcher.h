// Finds stop strings in a stream of text, whatever pieces it comes in, and holds back text that may
// still become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxr {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);

  // Text that can no longer be part of a stop string. After a match, everything before it; nothing
  // comes out any more.
  std::string push(std::string_view text);
  // What is still held back, when the stream ends without a match.
  std::string flush();
  bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace mlxr
