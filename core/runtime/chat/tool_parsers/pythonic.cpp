// Calls written as Python: bare at the answer's beginning (Llama 3.2, Llama 4) or in a fence (Gemma
// 3).
#include <algorithm>
#include <utility>

#include "core/runtime/chat/tag_finder.h"
#include "core/runtime/chat/tool_parsers/call_writer.h"
#include "core/runtime/chat/tool_parsers/parsers.h"
#include "core/runtime/chat/tool_parsers/python_calls.h"

namespace mlxr {
namespace {

class PythonicParser : public TextParser {
 public:
  PythonicParser(std::string open, std::string close, std::set<std::string> names)
      : open_(std::move(open)), close_(std::move(close)), names_(std::move(names)) {}

  void push(std::string_view text, ChatEvents& out) override {
    buffer_ += text;
    while (step(out)) {
    }
  }

  void finish(ChatEvents& out) override {
    // A call that was cut inside its arguments is no call; what was read of it is lost with it.
    if (state_ == State::kText || writer_.calls() == 0) {
      writer_.text(std::exchange(opened_, {}) + std::exchange(buffer_, {}), out);
    }
    writer_.finish(out);
  }

 private:
  enum class State { kText, kCalls, kEnd };

  bool step(ChatEvents& out) {
    switch (state_) {
      case State::kText:
        return open_.empty() ? begin_bare(out) : find_open(out);
      case State::kCalls:
        return read_calls(out);
      case State::kEnd:
        return find_close();
    }
    return false;
  }

  bool find_open(ChatEvents& out) {
    std::optional<FoundTag> found;
    const std::string before = take_before_tag(buffer_, {open_}, found);
    if (!before.empty()) writer_.text(before, out);
    if (!found) return false;
    opened_ = open_;
    state_ = State::kCalls;
    return true;
  }

  bool begin_bare(ChatEvents& out) {
    if (is_text_) {
      if (!buffer_.empty()) writer_.text(std::exchange(buffer_, {}), out);
      return false;
    }
    for (const std::string_view mark : {"<|python_tag|>", "<|python_start|>"}) {
      const std::string_view rest = trimmed(buffer_);
      if (rest.size() < mark.size() && mark.starts_with(rest)) return false;
      if (rest.starts_with(mark)) {
        buffer_ = buffer_.substr(buffer_.find(mark) + mark.size());
        return true;
      }
    }
    const size_t start = buffer_.find_first_not_of(" \t\r\n");
    if (start == std::string::npos) return false;
    if (buffer_[start] != '[') {
      is_text_ = true;
      return true;
    }
    opened_ = buffer_.substr(0, start + 1);
    buffer_.erase(0, start + 1);
    state_ = State::kCalls;
    return true;
  }

  bool read_calls(ChatEvents& out) {
    const size_t bracket = open_.empty() ? std::string::npos : buffer_.find_first_not_of(" \t\r\n");
    if (bracket != std::string::npos && buffer_[bracket] == '[') {
      if (writer_.calls() == 0) opened_ += buffer_.substr(0, bracket + 1);
      buffer_.erase(0, bracket + 1);
    }
    const PythonCallsRead read = read_python_calls(buffer_);
    for (const PythonCall& call : read.calls) {
      if (!names_.empty() && !names_.contains(call.name)) {
        if (writer_.calls() > 0) buffer_.erase(0, call.begin);  // the others were calls
        return not_a_call(out);
      }
      writer_.whole(call.name, call.arguments, out);
      opened_.clear();
    }
    if (!names_.empty() && writer_.calls() == 0 && !may_be_known(buffer_)) return not_a_call(out);
    if (!read.calls.empty()) buffer_.erase(0, read.taken);
    if (!read.wrong) return false;
    if (writer_.calls() == 0) return not_a_call(out);
    state_ = State::kEnd;
    return true;
  }

  // Whether `text` begins with a known name, or may come to.
  bool may_be_known(const std::string& text) const {
    std::string_view begin = trimmed(text);
    begin.remove_prefix(std::min(begin.find_first_not_of(" \t\r\n,;"), begin.size()));
    const std::string_view name = begin.substr(0, begin.find('('));
    for (const std::string& known : names_) {
      if (known == name || (name.size() == begin.size() && known.starts_with(name))) return true;
    }
    return false;
  }

  bool not_a_call(ChatEvents& out) {
    writer_.text(std::exchange(opened_, {}), out);
    is_text_ = true;
    state_ = State::kText;
    return true;
  }

  bool find_close() {
    const size_t close = buffer_.find(close_);
    if (close == std::string::npos) {
      buffer_.erase(0, buffer_.size() - partial_tag(buffer_, {close_}));
      return false;
    }
    buffer_.erase(0, close + close_.size());
    is_text_ = true;
    state_ = State::kText;
    return true;
  }

  std::string open_, close_;
  std::set<std::string> names_;
  State state_ = State::kText;
  std::string buffer_, opened_;
  CallWriter writer_;
  bool is_text_ = false;
};

}  // namespace

std::unique_ptr<TextParser> bare_pythonic_parser(std::set<std::string> names) {
  return std::make_unique<PythonicParser>("", "]", std::move(names));
}

std::unique_ptr<TextParser> fenced_pythonic_parser() {
  return std::make_unique<PythonicParser>("```tool_code", "```", std::set<std::string>());
}

}  // namespace mlxr
