#include "daemon/server/token_places.h"

#include <algorithm>
#include <utility>

namespace mlxr {
namespace {

size_t common_prefix(std::string_view a, std::string_view b) {
  const auto [end, ignored] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

// Behind it, white space is dropped, too.
bool TokenPlaces::ends_with_mark(std::string_view dropped) const {
  while (!dropped.empty() && is_space(dropped.back())) {
    dropped.remove_suffix(1);
  }
  return std::ranges::any_of(marks_,
                             [&](const std::string& mark) { return dropped.ends_with(mark); });
}

void TokenPlaces::drop(size_t bytes) {
  source_.erase(0, bytes);
  begin_ += static_cast<int64_t>(bytes);
  while (!waiting_.empty() && waiting_.front().end <= begin_) {
    waiting_.pop_front();
    first_had_by_.reset();
  }
}

// What was held back comes before what is held back still; what was dropped lies before the text
// or, with white space that was held, inside it.
std::vector<GeneratedLogprob> TokenPlaces::take(ChatEvent::Kind kind, std::string_view text) {
  const std::string_view source = source_;
  size_t front = common_prefix(source, text);
  const bool whole_behind = source.ends_with(text);
  if (whole_behind &&
      (front < text.size() || ends_with_mark(source.substr(0, source.size() - text.size())))) {
    front = 0;
  }
  const size_t behind = text.size() - front;
  const size_t taken = behind > 0 ? source.size() : front;
  const int64_t front_end = begin_ + static_cast<int64_t>(front);
  const int64_t end = begin_ + static_cast<int64_t>(taken);
  const int64_t behind_begin = end - static_cast<int64_t>(std::min(behind, taken));
  std::vector<GeneratedLogprob> tokens;
  bool first = true;
  for (const GeneratedLogprob& token : waiting_) {
    if (token.begin >= end) {
      break;
    }
    const bool inside = token.begin < token.end && token.end > begin_;
    const bool had = std::exchange(first, false) && first_had_by_ == kind;
    const bool of_text =
        (front > 0 && token.begin < front_end) || (behind > 0 && token.end > behind_begin);
    if (inside && !had && of_text) {
      tokens.push_back(token);
    }
  }
  drop(taken);
  if (!waiting_.empty() && waiting_.front().begin < begin_) {
    first_had_by_ = kind;
  }
  return tokens;
}

}  // namespace mlxr
