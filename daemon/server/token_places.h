// Which of an answer's tokens the parts of a parsed answer consist of. A parser says what is text
// and what was thought, not where in the answer that stood; fed a character at a time it gives text
// as soon as it may, and where that stood follows.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/chat/chat_event.h"
#include "daemon/scheduler/generate_request.h"

namespace mlxr {

class TokenPlaces {
 public:
  // `marks`: what a parser drops and text may follow at once. `opening`: bytes that the parser
  // reads before those of the tokens.
  TokenPlaces(std::vector<std::string> marks, size_t opening)
      : marks_(std::move(marks)), begin_(-static_cast<int64_t>(opening)) {}

  // The tokens of what is read from now on.
  void add(const std::vector<GeneratedLogprob>& tokens) {
    waiting_.insert(waiting_.end(), tokens.begin(), tokens.end());
  }
  // The parser reads a character.
  void read(std::string_view character) { source_ += character; }
  // The parser gave `text`, of this kind, of what it read: the tokens of it that no text of the
  // kind had before.
  std::vector<GeneratedLogprob> take(ChatEvent::Kind kind, std::string_view text);
  // What was read so far belongs to no text.
  void skip() { drop(source_.size()); }

 private:
  bool ends_with_mark(std::string_view dropped) const;
  void drop(size_t bytes);

  std::vector<std::string> marks_;
  int64_t begin_;       // of source_ in the answer's text
  std::string source_;  // read, of which nothing was given yet
  std::deque<GeneratedLogprob> waiting_;
  std::optional<ChatEvent::Kind> first_had_by_;  // the first waiting token, a part of it
};

}  // namespace mlxr
